"""`cpuserve profile`: shows where the time of a served model goes, and which setting to change."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from cpuserve.cli.figures import OUTPUT_FOLDER, check_folder
from cpuserve.cli.local_path import LocalPath
from cpuserve.cli.number_range import NumberRange
from cpuserve.cli.options import OWN_SERVER, json_option, setting_options
from cpuserve.errors import CpuserveError, UsageError

if TYPE_CHECKING:
    from cpuserve.profiling.finding import ProfileFinding
    from cpuserve.profiling.recorder import Step
    from cpuserve.profiling.recording import Recording
    from cpuserve.profiling.running_server import RunningServer
    from cpuserve.profiling.summary import Summary
    from cpuserve.settings import Settings

__all__ = ["command"]

_SHOWN = (
    *("workers", "threads", "streams", "decode", "precision", "max_batch", "max_queue_delay_us"),
    *("plugin_config", "queue_size", "result_cache_bytes", "allocator"),
)
"""Settings that a recording keeps."""


class _ProfileGroup(click.Group):
    """A command that profiles, with the subcommand ``diff``."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """``diff`` is the subcommand, any other first word the model."""
        context.allow_interspersed_args = args[:1] != ["diff"]
        return super().parse_args(context, ["", *args] if args[:1] == ["diff"] else args)

    def list_commands(self, _context: click.Context) -> list[str]:
        """The only subcommand."""
        return ["diff"]

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """The subcommand, imported when it is used."""
        from cpuserve.cli.profile_diff import command as diff  # noqa: PLC0415

        return diff if name == "diff" else None


@click.group("profile", cls=_ProfileGroup, invoke_without_command=True, subcommand_metavar="| diff A B")
@click.argument("model", required=False)
@click.option("--pid", type=int, help="Watch the server that this process belongs to.")
@click.option("--url", metavar="URL", help="Watch the server at this address of this machine.")
@click.option("--model", "name", metavar="NAME", help="With --pid or --url: the model, of several.")
@click.option("--seconds", type=NumberRange(1), default=10.0, show_default=True, help="To watch for.")
@click.option(
    "--load",
    "pictures",
    type=LocalPath(exists=True, file_okay=False, path_type=Path),
    help="Send the pictures of this directory in turn; for MODEL, one is made without it.",
)
@click.option(
    "--concurrency", type=click.IntRange(1), default=4, show_default=True, help="Clients that send them."
)
@click.option(
    "--rate",
    type=click.IntRange(0, 200),
    help="Python stacks a second, of all workers; 0: none.  [default: 100, on less than 5 CPUs 20 for each]",
)
@click.option("--native", is_flag=True, help="Add C frames to the stacks; costs 10 to 25 % of the speed.")
@click.option("--no-layers", is_flag=True, help="Do not compile the model again to time its layers.")
@click.option("--out", type=OUTPUT_FOLDER, help="Directory to write.")
@click.option(
    "--profiles-dir",
    type=LocalPath(file_okay=False, path_type=Path),  # looked at only where it is used
    default=Path("profiles"),
    show_default=True,
    help="Without --out: where DATE-MODEL is made.",
)
@json_option("Print all sums and findings as JSON.")
@click.option("--quiet", is_flag=True, help="Print the path of the page only.")
@setting_options(*OWN_SERVER)
@click.pass_context
def command(context: click.Context, /, **given: Any) -> None:
    """Show where every millisecond of a served model goes, and which setting to change.

    With MODEL, a server is started with the settings given here, put under load and stopped. With --pid or
    --url, a running server of the same user is watched, under its own load or, with --load, under more.
    Stages of requests, threads, Python stacks (py-spy) and CPU throttling are recorded together, on one
    clock; the model's layers are timed afterwards. The result is a directory with index.html, profile.json,
    trace.json (for ui.perfetto.dev), flamegraph.svg and stacks.speedscope.json.

    \b
    Exit codes: 0 done, 1 refused or failed, 2 wrong options.

    \b
    Example:
      cpuserve profile digits --seconds 10 --load photos
      cpuserve profile --pid 4711 --json
      cpuserve profile diff profiles/BEFORE profiles/AFTER
    """
    if context.invoked_subcommand is None:
        _profile(**given)


def _profile(
    *,
    model: str | None,
    pid: int | None,
    url: str | None,
    name: str | None,
    seconds: float,
    pictures: Path | None,
    concurrency: int,
    rate: int | None,
    native: bool,
    no_layers: bool,
    out: Path | None,
    profiles_dir: Path,
    as_json: bool,
    quiet: bool,
    config: Path | None,
    **flags: Any,
) -> None:
    if sum(one is not None for one in (model or None, pid, url)) != 1:
        raise UsageError("name what to profile: a MODEL, or a server that runs by --pid or --url")
    if name and model:
        raise UsageError(f"{model} is the model; --model {name} is for --pid and --url")
    from cpuserve.profiling.observers import Observers, usual_rate  # noqa: PLC0415  # not for --help
    from cpuserve.profiling.recorder import record  # noqa: PLC0415

    step = _step(hidden=as_json or quiet)
    with _server(model, pid, url, config, flags) as server:
        settings, unknown = _settings(server)
        name = _own_name(settings, model or name)
        if out is None:
            check_folder(profiles_dir, "--profiles-dir")
        else:
            _check_own(out, name or "server")
        observers = Observers(server, usual_rate() if rate is None else rate, native)
        if model or pictures:
            recording = _driven(observers, name, seconds, pictures, concurrency, step)
        else:
            recording = record(observers, name or "server", seconds, step)
    recording = _completed(recording, settings, unknown, name, step, layers=not no_layers)
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    _write(recording, out or profiles_dir / f"{stamp}-{recording.model}", as_json=as_json, quiet=quiet)


def _check_own(folder: Path, model: str) -> None:
    """Refuse to write over the profile of another model.

    Raises:
        UsageError: there is one in the directory, or what cannot be read as one.
    """
    from cpuserve.profiling.recording import FILE, Recording  # noqa: PLC0415

    if (folder / FILE).exists() and (there := Recording.load_from(folder).model) != model:
        raise UsageError(
            f"--out {folder} holds a profile of {there}, not of {model}: choose another directory"
        )


@contextmanager
def _server(
    model: str | None, pid: int | None, url: str | None, config: Path | None, flags: dict[str, Any]
) -> Iterator[RunningServer]:
    from urllib.parse import urlsplit  # noqa: PLC0415

    from cpuserve.profiling.running_server import RunningServer  # noqa: PLC0415

    if model:
        from cpuserve.measuring.local_server import local_server  # noqa: PLC0415

        with local_server(model, flags, config) as local:
            yield RunningServer.at(local.pid)
        return
    if any(value is not None for value in flags.values()) or config is not None:
        raise UsageError("settings are for a server that is started here: leave them out, or name a MODEL")
    if pid is not None:
        yield RunningServer.at(pid)
        return
    parts = urlsplit(url or "")
    try:
        port = parts.port or 80
    except ValueError:
        port = 0
    if parts.scheme != "http" or not parts.hostname or not port:
        raise UsageError(f"--url {url}: write it as http://HOST:PORT")
    yield RunningServer.at(None, port)


def _settings(server: RunningServer) -> tuple[Settings | None, str]:
    """The server's settings, or None and why they are not known."""
    try:
        return server.status().settings, ""
    except CpuserveError as error:
        return None, f"the server's settings: {error}"


def _own_name(settings: Settings | None, word: str | None) -> str | None:
    """The model's own name where an alias was given, or none and the server has only one model."""
    from cpuserve.models.repository import Repository  # noqa: PLC0415

    if settings is None:
        return word
    repository = Repository.of(settings)
    if word:
        return repository.own_name(word)
    names = repository.names()
    return names[0] if len(names) == 1 else None


def _driven(
    observers: Any, name: str | None, seconds: float, folder: Path | None, clients: int, step: Step
) -> Recording:
    from cpuserve.measuring.load_window import Load  # noqa: PLC0415
    from cpuserve.measuring.pictures import pictures  # noqa: PLC0415
    from cpuserve.measuring.target import ask_once, target_at  # noqa: PLC0415
    from cpuserve.profiling.recorder import DrivenLoad, record_under_load  # noqa: PLC0415

    with pictures(folder) as sent:
        target = target_at(f"http://127.0.0.1:{observers.server.port}", name, "predictions")
        ask_once(target, sent.files[0])
        driven = DrivenLoad(target, sent.files, sent.name, Load(connections=clients), made_up=folder is None)
        return record_under_load(observers, target.path.rpartition("/")[2], seconds, driven, step)


def _completed(
    recording: Recording,
    settings: Settings | None,
    unknown: str,
    name: str | None,
    step: Step,
    *,
    layers: bool,
) -> Recording:
    """Add the server's settings, and the layer times of its model."""
    from dataclasses import replace  # noqa: PLC0415

    from cpuserve.profiling.layers import WHERE, layer_times, usual_batch  # noqa: PLC0415

    seats = recording.placement.get("seats") or []
    known: dict[str, Any] = {"workers": len(seats), "threads": seats[0]["threads"] if seats else None}
    missing = list(recording.missing)
    if settings is None:
        return replace(
            recording, settings=known, missing=[*missing, f"{unknown}; so its layers are not timed"]
        )
    own = settings.for_model(name, {}) if name else settings
    known = {**{setting: getattr(own, setting) for setting in _SHOWN}, **known}
    known["threads"] = own.threads or known["threads"]
    if seats:
        from cpuserve.serving.compile_properties import streams_and_threads  # noqa: PLC0415

        known["streams"] = streams_and_threads(own, known["threads"])[0]
    found = []
    if not layers:
        missing.append("layers: not asked for (--no-layers)")
    elif name is None:
        missing.append("layers: the server has several models: name one with --model")
    else:
        step("timing layers")
        try:
            found = layer_times(settings, name, usual_batch(recording.batches))
            known["layers"] = WHERE
        except CpuserveError as error:
            missing.append(f"layers: {error}")
    return replace(recording, settings=known, layers=found, missing=missing)


def _step(*, hidden: bool) -> Step:
    """Prints what happens next, unless hidden."""
    return lambda words: None if hidden else click.echo(f"{words} ...", err=True)


def _write(recording: Recording, folder: Path, *, as_json: bool, quiet: bool) -> None:
    from cpuserve.profiling.findings import find  # noqa: PLC0415
    from cpuserve.profiling.page import write_page  # noqa: PLC0415
    from cpuserve.profiling.perfetto import write_trace  # noqa: PLC0415
    from cpuserve.profiling.stacks import write_stacks  # noqa: PLC0415
    from cpuserve.profiling.summary import summarise  # noqa: PLC0415

    sums = summarise(recording)
    found = find(recording, sums)
    recording.save(folder)
    if recording.stacks is not None:
        write_stacks(recording.stacks, recording.model, folder)
    write_trace(recording, folder)
    page = write_page(recording, folder, sums, found)
    if as_json:
        document = {
            **sums.to_json(),
            "findings": [one.to_json() for one in found],
            "html": str(page),
            "overhead": recording.overhead,
            "load": recording.load,
            "missing": recording.missing,
        }
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    elif quiet:
        click.echo(str(page))
    else:
        _show(recording, sums, found, page)


def _show(recording: Recording, sums: Summary, found: list[ProfileFinding], page: Path) -> None:
    from rich.console import Console  # noqa: PLC0415  # not for --help
    from rich.table import Table  # noqa: PLC0415

    latency = sums.latency
    grid = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("Stage", "mean ms", "p99 ms", "of latency"):
        grid.add_column(title, justify="left" if title == "Stage" else "right", no_wrap=True)
    for stage in latency.stages:
        grid.add_row(stage.name, f"{stage.mean_ms:.2f}", f"{stage.p99_ms:.2f}", f"{stage.share:.1%}")
    Console().print(grid)
    who = "clients" if latency.client_ms is not None else "server"
    click.echo(
        f"{latency.requests} requests; {latency.measured_ms:.2f} ms each as the {who} measured, "
        f"{sums.accounted_share:.1%} of it in these stages"
    )
    if latency.missing:
        click.echo(latency.missing)
    for finding in found:
        click.echo(f"{finding.severity}: {finding.sentence}")
    click.echo(_overhead(recording.overhead))
    for line in recording.missing:
        click.echo(f"not seen: {line}")
    click.echo(str(page))


def _overhead(overhead: dict[str, Any]) -> str:
    if overhead.get("share") is None:
        return f"watching took {overhead.get('cpu_share', 0):.1%} of the CPUs (the load is another's)"
    by_cpu = f"; {overhead['cpu_share']:+.1%} CPU time a request" if "cpu_share" in overhead else ""
    rates = (
        f"{overhead['rate_on']:.0f} requests a second, {overhead['rate_off']:.0f} unwatched, which differ by "
        f"{overhead['noise']:.0%} among themselves{by_cpu}"
    )
    if overhead["share"] <= overhead["noise"]:
        return f"watching cost nothing that can be told from noise ({rates})"
    return f"watching cost {overhead['share']:.1%} of the speed ({rates})"
