"""`cpuserve bench serve`: loads a server with one to many clients, or at given rates."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cpuserve.cli.bench.show import show_levels, show_scenario, write_csv
from cpuserve.cli.console import stepping
from cpuserve.cli.figures import OUTPUT_FILE, deliver, figures_options
from cpuserve.cli.foreign_words import SuggestingChoice
from cpuserve.cli.number_range import NumberRange
from cpuserve.cli.options import OWN_SERVER, pictures_option, setting_options
from cpuserve.endpoints.registry import is_registry
from cpuserve.errors import CpuserveError, UsageError

if TYPE_CHECKING:
    from cpuserve.measuring.load_window import Load, Target
    from cpuserve.measuring.pictures import PictureFiles
    from cpuserve.measuring.stable_windows import LoadLevel

__all__ = ["command"]

_SCENARIOS = ("singlestream", "multistream", "server", "offline")


_CLIENTS = "1:32:x2"


@click.command("serve")
@click.argument("server", metavar="URL|@REGISTRY|MODEL")
@click.option("--model", metavar="NAME", help="With a URL: the model. Not needed if the server has only one.")
@click.option(
    "--concurrency-range",
    "clients",
    metavar="RANGE",
    help="Numbers of clients that each wait for an answer, such as 1:8:1.  [default, without "
    f"--request-rate-range: {_CLIENTS}]",
)
@click.option(
    "--request-rate-range",
    "rates",
    metavar="RANGE",
    help="Requests a second at random times (Poisson), such as 100:300:100.",
)
@pictures_option
@click.option(
    "--protocol",
    type=SuggestingChoice(["predictions", "v2", "tensors"]),
    default="predictions",
    show_default=True,
    help="Pictures to /predictions, pictures to /v2, or the model's input tensors as binary data to /v2.",
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    help="Rows of a request with --protocol tensors. Figures count requests.",
)
@click.option(
    "--window-seconds", type=NumberRange(0.1), default=2.0, show_default=True, help="Length of a window."
)
@click.option(
    "--max-windows",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="Most windows of one load; after these it counts as unstable.",
)
@click.option("--scenario", type=SuggestingChoice(_SCENARIOS), help="Let MLPerf LoadGen send the requests.")
@click.option(
    "--target-qps",
    type=NumberRange(0.1),
    default=100.0,
    show_default=True,
    help="Requests a second of --scenario server.",
)
@click.option(
    "--target-latency-ms",
    type=NumberRange(0.1),
    default=15.0,
    show_default=True,
    help="Latency that --scenario server allows.",
)
@click.option(
    "--seconds",
    type=NumberRange(0.5),
    default=10.0,
    show_default=True,
    help="Least length of a --scenario.",
)
@click.option("--csv", "table", type=OUTPUT_FILE, help="Write the table to this file.")
@figures_options
@setting_options(*OWN_SERVER, "preset", "tuning_dir", defaults={"preset": "off"})
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
    """Put a server under load and show its throughput, its latency and the CPU time it takes.

    URL is a running server. For MODEL a server is started with the settings given here (add --preset auto for
    tuned ones) and stopped afterwards. Latency counts from sending or, with --request-rate-range, from the
    time at which a request was due. A load is measured in windows until the last three agree within 10 %;
    these three are shown. CPU-ms is the time of all processes of a server on this machine.

    \b
    Exit codes: 0 done, 1 requests were not answered 200 (or it could not be measured),
    2 wrong options, 3 a load never became stable (or LoadGen calls the run invalid).

    \b
    Example:
      cpuserve bench serve digits --concurrency-range 1:32:x2
      cpuserve bench serve http://127.0.0.1:8000 --request-rate-range 100:300:100 --images photos
      cpuserve bench serve @http://10.0.0.1:7900/endpoints --concurrency-range 8:64:x2
      cpuserve bench serve digits --protocol tensors --concurrency-range 16
      cpuserve bench serve digits --scenario server --target-qps 200 --target-latency-ms 15
    """
    from cpuserve.measuring.target import ask_once  # noqa: PLC0415  # not for --help

    if scenario and (clients or rates or table):
        raise UsageError("--scenario lets LoadGen choose the load: leave ranges and --csv out")
    if scenario and is_registry(server):
        raise UsageError(f"--scenario loads one server, and {server} is a registry of several: name a URL")
    if protocol == "tensors" and images:
        raise UsageError("--protocol tensors sends no pictures: leave --images out")
    if protocol != "tensors" and batch:
        raise UsageError("--batch is for --protocol tensors: a picture is one row")
    loads = _loads(clients, rates)
    shown = not (as_json or quiet)
    with (
        _targets(server, model, protocol, config, flags) as targets,
        _sent(targets()[0], images, batch, protocol) as (sent, target),
    ):
        ask_once(target, sent.files[0])
        if scenario:
            terms = {"qps": target_qps, "latency_ms": target_latency_ms, "seconds": seconds}
            outcome = _run_scenario(target, sent.files, scenario, terms)
        else:
            there = _followed(targets, target)
            outcome = _run_loads(there, sent.files, loads, window_seconds, max_windows, table, shown=shown)
    if shown:
        outcome.show()
        click.echo(f"sent: {sent.name}")
    about = {"path": target.path, "sent": sent.name, "server_unseen": target.unseen or None}
    deliver({**about, **outcome.figures}, out, as_json=as_json)
    sys.exit(outcome.exit_code)


@dataclass(frozen=True)
class _Outcome:
    """The measured loads and scenarios.

    Attributes:
        figures: of all loads.
        failed: whether any request was not answered 200.
        steady: whether the figures can be relied on.
        show: prints them.
    """

    figures: dict[str, Any]
    failed: bool
    steady: bool
    show: Callable[[], None]

    @property
    def exit_code(self) -> int:
        return 1 if self.failed else 0 if self.steady else 3


def _run_scenario(target: Target, files: Sequence[Path], scenario: str, terms: dict[str, float]) -> _Outcome:
    from cpuserve.bench.loadgen import run_scenario  # noqa: PLC0415

    found = run_scenario(target, files, scenario, **terms)
    valid = found["result"] == "VALID"
    return _Outcome(found, bool(found["errors"]), valid, partial(show_scenario, found))


def _run_loads(
    targets: Callable[[], Sequence[Target]],
    files: Sequence[Path],
    loads: Sequence[Load],
    seconds: float,
    most: int,
    table: Path | None,
    *,
    shown: bool,
) -> _Outcome:
    levels = _measure(targets, files, loads, seconds, most, shown=shown)
    if table is not None:
        write_csv(table, levels)
    return _Outcome(
        figures={"loads": [level.figures() for level in levels]},
        failed=any(level.last.errors for level in levels),
        steady=all(level.stable for level in levels),
        show=partial(show_levels, levels, targets()[0].unseen),
    )


@contextmanager
def _sent(
    target: Target, images: Path | None, batch: int | None, protocol: str
) -> Iterator[tuple[PictureFiles, Target]]:
    """What is sent, and the target with the headers that go with it."""
    from cpuserve.measuring.pictures import pictures  # noqa: PLC0415  # not for --help
    from cpuserve.measuring.tensors import tensors  # noqa: PLC0415

    if protocol == "tensors":
        with tensors(target, batch or 1) as both:
            yield both
    else:
        with pictures(images) as sent:
            yield sent, target


def _loads(clients: str | None, rates: str | None) -> list[Load]:
    from cpuserve.measuring.load_ranges import parse_range  # noqa: PLC0415
    from cpuserve.measuring.load_window import Load  # noqa: PLC0415

    if clients is None and rates is None:
        clients = _CLIENTS
    found = [] if clients is None else parse_range(clients, "--concurrency-range", whole=True)
    loads = [Load(connections=int(value)) for value in found]
    found = [] if rates is None else parse_range(rates, "--request-rate-range", whole=False)
    return loads + [Load(rate=value) for value in found]


@contextmanager
def _targets(
    server: str, model: str | None, protocol: str, config: Path | None, flags: dict[str, Any]
) -> Iterator[Callable[[], Sequence[Target]]]:
    """What says which servers there are now."""
    from cpuserve.endpoints.registry import urls_of  # noqa: PLC0415  # not for --help
    from cpuserve.measuring.local_server import local_server  # noqa: PLC0415
    from cpuserve.measuring.target import target_at  # noqa: PLC0415

    if "://" in server or is_registry(server):
        given = [name for name, value in flags.items() if value is not None]
        if given:
            raise UsageError(
                f"--{given[0].replace('_', '-')} is for a server started here, {server} runs already"
            )
        if is_registry(server):
            found = partial(target_at, model=model, protocol=protocol)
            yield lambda: [found(url) for url in urls_of([server])]
        else:
            only = [target_at(server, model, protocol)]
            yield lambda: only
        return
    if model not in (None, server):
        raise UsageError(f"{server} is the model; --model {model} is for a URL")
    with local_server(server, flags, config) as local:
        only = [target_at(local.url, server, protocol)]
        yield lambda: only


def _followed(targets: Callable[[], Sequence[Target]], sent: Target) -> Callable[[], Sequence[Target]]:
    """The servers there are now, asked as the first was; those of before where that cannot be found out."""
    kept = [replace(one, headers=sent.headers) for one in targets()]

    def now() -> Sequence[Target]:
        try:
            kept[:] = [replace(one, headers=sent.headers) for one in targets()]
        except CpuserveError as error:
            click.echo(f"the servers stay as they are: {error}", err=True)
        return [*kept]

    return now


def _measure(
    targets: Callable[[], Sequence[Target]],
    files: Sequence[Path],
    loads: Sequence[Load],
    seconds: float,
    most: int,
    *,
    shown: bool,
) -> list[LoadLevel]:
    from cpuserve.measuring.server_batches import ServerBatches  # noqa: PLC0415
    from cpuserve.measuring.several_servers import measure_servers  # noqa: PLC0415
    from cpuserve.measuring.stable_windows import measure_level  # noqa: PLC0415

    levels = []
    with stepping(len(loads) * most, "windows", shown=shown) as step:
        for number, load in enumerate(loads):

            def once(window: int, load: Load = load, number: int = number) -> Any:
                seed = 1000 * number + window
                return measure_servers(targets(), files, load, seconds=seconds, seed=seed, lost=_say_lost)

            there = targets()
            before = ServerBatches.read(there[0]) if len(there) == 1 else None
            level = measure_level(load, once, most, lambda _: step(1))
            step(most - len(level.windows))
            after = None if before is None else ServerBatches.read(there[0])
            if before is not None and after is not None:
                level = replace(level, batches=after.since(before))
            levels.append(level)
    return levels


def _say_lost(target: Target, reason: str) -> None:
    click.echo(f"http://{target.host}:{target.port} is left out of a window: {reason}", err=True)
