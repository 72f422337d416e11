"""`cpuserve video plan`: predicts how long frames take with so many replicas."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from cpuserve.cli.console import show_table
from cpuserve.cli.foreign_words import SuggestingChoice
from cpuserve.cli.local_path import LocalPath
from cpuserve.cli.number_range import SEED, NumberRange
from cpuserve.cli.options import json_option
from cpuserve.errors import UsageError

if TYPE_CHECKING:
    from cpuserve.video.published_times import PublishedComparison
    from cpuserve.video.replica_plan import PlannedRun, ReplicaPlan
    from cpuserve.video.simulation import Fleet, FrameTimes, Policy

__all__ = ["command"]

_MOST_MS = 3_600_000  # an hour


class _Numbers(click.ParamType[tuple[int, ...]]):
    """Whole numbers from 1, separated by commas."""

    name = "numbers"

    def __init__(self, most: int) -> None:
        self._most = most

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The numbers; `click.BadParameter` where one is none."""
        if isinstance(value, tuple):
            return value
        parts = str(value).split(",")
        if not all(part.strip().isdecimal() and 1 <= int(part) <= self._most for part in parts):
            self.fail(f"{value!r} is no list of whole numbers from 1 to {self._most}", param, ctx)
        return tuple(dict.fromkeys(int(part) for part in parts))


@click.command("plan")
@click.option(
    "--from",
    "stats",
    type=LocalPath(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Take the times from the statistics that a run with --replicas wrote (--json).",
)
@click.option(
    "--service-ms",
    type=NumberRange(1e-6, _MOST_MS),
    metavar="MS",
    help="What a replica takes for a frame, measured on the cores it will have.",
)
@click.option(
    "--gap-ms",
    type=NumberRange(0, _MOST_MS),
    metavar="MS",
    help="What the client takes for a frame: decode, scale, compare, send.",
)
@click.option(
    "--network-ms",
    type=NumberRange(0, _MOST_MS),
    metavar="MS",
    help="Way to a replica and back [default: 0].",
)
@click.option(
    "--frames", type=_Numbers(1_000_000), default="50,500,1000,2000,5000", show_default=True, metavar="N,..."
)
@click.option("--replicas", type=_Numbers(1000), default="1,2,4,8", show_default=True, metavar="N,...")
@click.option(
    "--share",
    type=NumberRange(1e-6, 1),
    default=1.0,
    show_default=True,
    help="Share of the frames that go to the replicas; a cascade answers the others itself.",
)
@click.option(
    "--policy",
    type=SuggestingChoice(["least-outstanding", "random"]),
    default="least-outstanding",
    show_default=True,
    help="How frames are handed out: as --replicas does, or by a random load balancer.",
)
@click.option(
    "--at-once",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="Frames a replica infers at once.",
)
@click.option(
    "--in-flight",
    type=click.IntRange(1, 1024),
    default=4,
    show_default=True,
    help="Most frames a replica has.",
)
@click.option("--share-cores", is_flag=True, help="The client runs on the replicas' cores.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the simulation's draws.")
@click.option("--paper", is_flag=True, help="Show the published times beside formula and simulation.")
@json_option("Print the plan as one JSON object.")
@click.option("--quiet", is_flag=True, help="Print the table without remarks.")
def command(
    *,
    stats: Path | None,
    service_ms: float | None,
    gap_ms: float | None,
    network_ms: float | None,
    frames: tuple[int, ...],
    replicas: tuple[int, ...],
    share: float,
    policy: Policy,
    at_once: int,
    in_flight: int,
    share_cores: bool,
    seed: int,
    paper: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Predict how long frames take with 1, 2, 4, 8 replicas, by a published formula and by simulation.

    The times come from a run (--from) or by hand (--service-ms, --gap-ms). The formula is that of Distributed
    NoScope, a sum; the simulation's client sends while it makes frames, as `cpuserve video run` does.

    \b
    Example:
      cpuserve video infer a.mp4 --model ssd -o a.jsonl --replicas http://a:8000 --json > stats.json
      cpuserve video plan --from stats.json --replicas 1,2,4,8
      cpuserve video plan --service-ms 80 --gap-ms 15 --frames 120
      cpuserve video plan --paper
    """
    from cpuserve.video.simulation import Fleet  # noqa: PLC0415  # not for --help

    if paper:
        if stats is not None or service_ms is not None or gap_ms is not None:
            raise UsageError("--paper has its own times: leave out --from, --service-ms and --gap-ms")
        _published(seed, as_json=as_json, quiet=quiet)
        return
    from cpuserve.video.replica_plan import plan_replicas  # noqa: PLC0415

    times = _times(stats, service_ms, gap_ms, network_ms)
    fleet = Fleet(1, at_once, in_flight, policy, shares_cores=share_cores)
    plan = plan_replicas(frames, replicas, times, fleet, share=share, seed=seed)
    if as_json:
        asked = {"times": asdict(times), "fleet": asdict(fleet), "share": share, "seed": seed}
        document = {**asked, **asdict(plan)}
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))
        return
    _show(plan, times, fleet, share, quiet=quiet)


def _times(
    stats: Path | None, service_ms: float | None, gap_ms: float | None, network_ms: float | None
) -> FrameTimes:
    """The times that were given, by hand before those of a file."""
    from cpuserve.video.run_times import run_times  # noqa: PLC0415
    from cpuserve.video.simulation import FrameTimes  # noqa: PLC0415

    if stats is None and (service_ms is None or gap_ms is None):
        raise UsageError("give --from FILE, or --service-ms and --gap-ms, or --paper")
    times = run_times(stats) if stats is not None else FrameTimes(0.0, [1.0])
    return FrameTimes(
        times.client_s if gap_ms is None else gap_ms / 1000,
        times.service_s if service_ms is None else [service_ms / 1000],
        times.network_s if network_ms is None else network_ms / 1000,
    )


def _show(plan: ReplicaPlan, times: FrameTimes, fleet: Fleet, share: float, *, quiet: bool) -> None:
    from rich.table import Table  # noqa: PLC0415

    table = Table("frames", "replicas", "simulated", "formula", "p50", "p99", "bottleneck", box=None)
    for run in plan.runs:
        table.add_row(
            *(str(run.frames), str(run.replicas), f"{run.makespan_s:.2f} s", f"{run.formula_s:.2f} s"),
            *(f"{run.p50_ms:.0f} ms", f"{run.p99_ms:.0f} ms", _busy(run)),
        )
    show_table(table)
    if quiet:
        return
    service = sum(times.service_s) / len(times.service_s)
    click.echo(
        f"a replica takes {1000 * service:.1f} ms a frame, the client {1000 * times.client_s:.1f} ms, the "
        f"way {1000 * times.network_s:.1f} ms; {100 * share:.0f} % of the frames go to replicas"
    )
    balance = f"{plan.balance:.1f} replicas are as fast as the client, more bring nothing"
    if plan.balance == float("inf"):
        balance = "the client takes no time, so more replicas are always faster"
    click.echo(f"knee: {plan.knee} (within a tenth of the best of those asked for); {balance}")
    click.echo("p50 and p99 are from when a frame is made to its answer")
    for finding in plan.findings:
        click.echo(finding)
    if not fleet.shares_cores:
        click.echo("replicas and client are taken to have cores of their own (else: --share-cores)")


def _busy(run: PlannedRun) -> str:
    return (
        f"{run.bottleneck} (client {100 * run.client_busy:.0f} %, replicas {100 * run.replicas_busy:.0f} %)"
    )


def _published(seed: int, *, as_json: bool, quiet: bool) -> None:
    from cpuserve.video.published_times import compare_published  # noqa: PLC0415

    found = compare_published(seed)
    if as_json:
        click.echo(orjson.dumps(asdict(found), option=orjson.OPT_INDENT_2))
        return
    _show_published(found, quiet=quiet)


def _show_published(found: PublishedComparison, *, quiet: bool) -> None:
    from rich.table import Table  # noqa: PLC0415

    table = Table(
        *("frames", "requests", "servers", "published", "formula, own times", "formula, fitted"),
        *("simulated, overlapping", "simulated, one after the other"),
        box=None,
    )
    for cell in found.cells:
        times = cell.published_s, cell.as_published_s, cell.fitted_s, cell.simulated_s, cell.waiting_s
        table.add_row(
            *(str(cell.frames), str(cell.requests), str(cell.servers)), *(f"{one:.0f} s" for one in times)
        )
    show_table(table)
    if not quiet:
        for finding in found.findings:
            click.echo(finding)
