"""`cpuserve bench serve`: a server under load, from one client to many or at given rates."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from cpuserve.cli.options import setting_options
from cpuserve.errors import UsageError

if TYPE_CHECKING:
    from cpuserve.bench.measure import Target
    from cpuserve.bench.pictures import Pictures
    from cpuserve.bench.windows import Level

__all__ = ["OWN_SERVER", "command", "writable"]

OWN_SERVER = (
    *("model_repository", "workers", "cores_per_worker", "threads", "decode", "precision", "max_batch"),
    *("max_queue_delay_us", "streams", "inference_threads", "plugin_config"),
)
"""Settings that a server which is started for a benchmark can be given."""

_SCENARIOS = ("singlestream", "multistream", "server", "offline")


@click.command("serve")
@click.argument("server", metavar="URL|MODEL")
@click.option("--model", metavar="NAME", help="With a URL: the model; not needed where there is one only.")
@click.option("--concurrency-range", "clients", metavar="RANGE", help="Closed loop: 1:32:x2 or 1:8:1.")
@click.option(
    "--request-rate-range", "rates", metavar="RANGE", help="Open loop, Poisson: 100:300:100 a second."
)
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory of pictures, sent in turn; without it one is made.",
)
@click.option(
    "--protocol",
    type=click.Choice(["predictions", "v2", "tensors"]),
    default="predictions",
    show_default=True,
    help="Pictures to /predictions, pictures to /v2, or the model's input tensors as binary data to /v2.",
)
@click.option(
    "--batch", type=click.IntRange(1), help="Rows of a request of --protocol tensors; figures count requests."
)
@click.option("--window-seconds", type=click.FloatRange(0.1), default=2.0, show_default=True)
@click.option(
    "--max-windows",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="Of one load, then it is unstable.",
)
@click.option("--scenario", type=click.Choice(_SCENARIOS), help="Let MLPerf LoadGen send instead.")
@click.option(
    "--target-qps", type=click.FloatRange(0.1), default=100.0, show_default=True, help="For --scenario."
)
@click.option(
    "--target-latency-ms",
    type=click.FloatRange(0.1),
    default=15.0,
    show_default=True,
    help="Bound of --scenario server.",
)
@click.option(
    "--seconds", type=click.FloatRange(0.5), default=10.0, show_default=True, help="Least, for --scenario."
)
@click.option(
    "--csv", "table", type=click.Path(dir_okay=False, path_type=Path), help="Write the table to this file."
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures to this file (JSON)."
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option("--quiet", is_flag=True, help="Print nothing; the exit code says it.")
@setting_options(*OWN_SERVER, "profile", "tuning_dir")
def command(
    *,
    server: str,
    model: str | None,
    clients: str | None,
    rates: str | None,
    images: Path | None,
    protocol: str,
    batch: int | None,
    window_seconds: float,
    max_windows: int,
    scenario: str | None,
    target_qps: float,
    target_latency_ms: float,
    seconds: float,
    table: Path | None,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    config: Path | None,
    **flags: Any,
) -> None:
    """Load a server and show what it answers and what that costs.

    URL is a server that runs; for MODEL one is started with the settings given here (and tuned ones:
    --profile auto) and stopped afterwards. Latency in the closed loop counts from sending, in the open loop
    from the time a request was due. A load is measured in windows until the last three agree within 10 %;
    these three are shown. CPU-ms are of all processes of the server, where it is on this machine.

    \b
    Exit codes: 0 done, 1 requests were not answered 200 (or it could not be measured),
    2 wrong words on the command line, 3 a load never became stable (or LoadGen calls the run invalid).

    \b
    Example:
      cpuserve bench serve digits --concurrency-range 1:32:x2
      cpuserve bench serve http://127.0.0.1:8000 --request-rate-range 100:300:100 --images photos
      cpuserve bench serve digits --protocol tensors --concurrency-range 16
      cpuserve bench serve digits --scenario server --target-qps 200 --target-latency-ms 15
    """
    from cpuserve.bench.results import write_result  # noqa: PLC0415  # not for --help
    from cpuserve.bench.target import ask_once  # noqa: PLC0415

    if scenario and (clients or rates or table):
        raise UsageError("--scenario lets LoadGen choose the load: leave ranges and --csv out")
    if protocol == "tensors" and images:
        raise UsageError("--protocol tensors sends no pictures: leave --images out")
    if protocol != "tensors" and batch:
        raise UsageError("--batch is for --protocol tensors: a picture is one row")
    loads = _loads(clients, rates)
    for file in (table, out):
        writable(file)
    show = not (as_json or quiet)
    with (
        _target(server, model, protocol, config, flags) as found_there,
        _sent(found_there, images, batch, protocol) as (sent, target),
    ):
        ask_once(target, sent.files[0])
        if scenario:
            from cpuserve.bench.loadgen import run_scenario  # noqa: PLC0415

            found = run_scenario(
                target,
                sent.files,
                scenario,
                qps=target_qps,
                latency_ms=target_latency_ms,
                seconds=seconds,
            )
            failed, unstable = bool(found["errors"]), found["result"] != "VALID"
            if show:
                _show_scenario(found)
        else:
            levels = _measure(target, sent.files, loads, window_seconds, max_windows, hidden=not show)
            failed, unstable = (
                any(level.last.errors for level in levels),
                not all(level.stable for level in levels),
            )
            found = {"loads": [level.figures() for level in levels]}
            if show:
                _show(levels, target.unseen)
            if table is not None:
                _write_csv(table, levels)
        found = {"path": target.path, "sent": sent.name, "server_unseen": target.unseen or None, **found}
        if show:
            click.echo(f"sent: {sent.name}")
    if out is not None:
        write_result(out, ["cpuserve", *sys.argv[1:]], found)
    if as_json:
        click.echo(orjson.dumps(found))
    sys.exit(1 if failed else 3 if unstable else 0)


@contextmanager
def _sent(
    target: Target, images: Path | None, batch: int | None, protocol: str
) -> Iterator[tuple[Pictures, Target]]:
    """What is sent, and the target with the headers that go with it."""
    from cpuserve.bench.pictures import pictures  # noqa: PLC0415  # not for --help
    from cpuserve.bench.tensors import tensors  # noqa: PLC0415

    if protocol == "tensors":
        with tensors(target, batch or 1) as both:
            yield both
    else:
        with pictures(images) as sent:
            yield sent, target


def writable(file: Path | None) -> None:
    """Refuse a file that could not be written, before hours are spent on what goes into it.

    Raises:
        UsageError: its directory is not there.
    """
    if file is not None and not file.absolute().parent.is_dir():
        raise UsageError(f"{file}: there is no directory {file.parent}")


def _loads(clients: str | None, rates: str | None) -> list[Any]:
    from cpuserve.bench.measure import Load  # noqa: PLC0415
    from cpuserve.bench.ranges import parse_range  # noqa: PLC0415

    if clients is None and rates is None:
        clients = "1:32:x2"
    found = [] if clients is None else parse_range(clients, "--concurrency-range", whole=True)
    loads = [Load(connections=int(value)) for value in found]
    found = [] if rates is None else parse_range(rates, "--request-rate-range", whole=False)
    return loads + [Load(rate=value) for value in found]


@contextmanager
def _target(
    server: str, model: str | None, protocol: str, config: Path | None, flags: dict[str, Any]
) -> Iterator[Target]:
    from cpuserve.bench.local import serving  # noqa: PLC0415
    from cpuserve.bench.target import target_at  # noqa: PLC0415

    if "://" in server:
        given = [name for name, value in flags.items() if value is not None]
        if given:
            raise UsageError(
                f"--{given[0].replace('_', '-')} is for a server started here, {server} runs already"
            )
        yield target_at(server, model, protocol)
        return
    if model not in (None, server):
        raise UsageError(f"{server} is the model; --model {model} is for a URL")
    with serving(server, flags, config) as local:
        yield target_at(local.url, server, protocol)


def _measure(
    target: Target, files: Sequence[Path], loads: Sequence[Any], seconds: float, most: int, *, hidden: bool
) -> list[Level]:
    from cpuserve.bench.batches import Batches  # noqa: PLC0415
    from cpuserve.bench.measure import measure_window  # noqa: PLC0415
    from cpuserve.bench.windows import measure_level  # noqa: PLC0415

    levels = []
    hidden = hidden or not sys.stderr.isatty()
    with click.progressbar(length=len(loads) * most, label="windows", file=sys.stderr, hidden=hidden) as bar:
        for number, load in enumerate(loads):

            def once(window: int, load: Any = load, number: int = number) -> Any:
                return measure_window(target, files, load, seconds=seconds, seed=1000 * number + window)

            before = Batches.read(target)
            level = measure_level(load, once, most, lambda _: bar.update(1))
            bar.update(most - len(level.windows))
            after = None if before is None else Batches.read(target)
            if before is not None and after is not None:
                level = replace(level, batches=after.since(before))
            levels.append(level)
    return levels


_WIDTH = 118
_FILES_ONLY = ("server_cores", "client_cores")
_COLUMNS = {
    "Concurrency": "concurrency",
    "Request Rate": "request_rate",
    "Offered/Second": "offered_per_s",
    "Inferences/Second": "images_per_s",
    "p50 latency": "p50_ms",
    "p95 latency": "p95_ms",
    "p99 latency": "p99_ms",
    "Server CPU-ms": "cpu_ms",
    "Server Cores": "server_cores",
    "Client Cores": "client_cores",
    "Foreign Cores": "foreign_cores",
    "Rows/Batch": "rows_a_batch",
    "Noise": "noise",
}


def _show(levels: Sequence[Level], unseen: str) -> None:
    from rich.console import Console  # noqa: PLC0415  # not for --help
    from rich.table import Table  # noqa: PLC0415

    rows = [level.figures() for level in levels]
    columns = {
        title: name
        for title, name in _COLUMNS.items()
        if name not in _FILES_ONLY and any(row[name] is not None for row in rows)
    }
    grid = Table(box=None, padding=(0, 1, 0, 0))
    for title in (*columns, "Errors", "Stable"):
        words = title.replace("/", "/\n").replace(" ", "\n")
        grid.add_column(words, justify="right", no_wrap=True)
    for row in rows:
        errors = ", ".join(f"{count} x {status}" for status, count in row["errors"].items())
        cells = [_cell(name, row[name]) for name in columns.values()]
        grid.add_row(*cells, errors or "0", "yes" if row["stable"] else "NO")
    Console(width=max(_WIDTH, Console().width)).print(grid)
    click.echo(
        "latency in ms; CPU-ms of the server's processes for each inference; noise: (max - min) / mean"
    )
    if unseen:
        click.echo(f"the server's CPU is not shown: {unseen}")


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" if name == "noise" else f"{value:g}" if name == "concurrency" else f"{value:.2f}"


def _write_csv(file: Path, levels: Sequence[Level]) -> None:
    with file.open("w", newline="") as output:
        lines = csv.writer(output)
        lines.writerow([*_COLUMNS, "Errors", "Stable"])
        for level in levels:
            row = level.figures()
            lines.writerow(
                [*(row[name] for name in _COLUMNS.values()), sum(row["errors"].values()), row["stable"]]
            )


def _show_scenario(found: dict[str, Any]) -> None:
    click.echo(f"LoadGen based, scenario {found['scenario']} (not an MLPerf result): {found['result']}")
    for reason in found["reasons"]:
        click.echo(f"  {reason}")
    for name, value in found["summary"].items():
        click.echo(f"  {name}: {value}")
    errors = ", ".join(f"{count} x {status}" for status, count in found["errors"].items())
    click.echo(f"  errors: {errors or 'none'}; server CPU-ms: {_cell('cpu_ms', found['cpu_ms'])}")
