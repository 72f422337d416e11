"""`cpuserve test-reload`: tests on this machine that a reload loses no request."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from cpuserve.cli.console import stepping
from cpuserve.cli.figures import deliver, figures_options
from cpuserve.cli.local_path import LocalPath
from cpuserve.cli.number_range import NumberRange
from cpuserve.cli.options import setting_options, settings_from

__all__ = ["command"]


@click.command("test-reload")
@click.argument("model")
@click.argument("image", type=LocalPath(exists=True, dir_okay=False, path_type=Path))
@click.option("--reloads", type=click.IntRange(1), default=20, show_default=True, help="Number of reloads.")
@click.option(
    "--connections", type=click.IntRange(1), default=2, show_default=True, help="Number of clients."
)
@click.option(
    "--grpc-share",
    type=NumberRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of the clients that ask over gRPC; needs the extra grpc.",
)
@figures_options
@setting_options("model_repository")
def command(
    model: str,
    image: Path,
    reloads: int,
    connections: int,
    grpc_share: float,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    config: Path | None,
    **flags: Any,
) -> None:
    """Replace MODEL again and again under load, and count requests that fail.

    The command starts a server with a copy of MODEL and posts IMAGE to it all the time. The exit code is 0 if
    no request failed, every answer came from the old or the new version, and the 99th percentile of latency
    stayed below three times that without reloads; otherwise it is 1.

    \b
    Example:
      cpuserve test-reload digits seven.png --reloads 20
    """
    from cpuserve.bench.reload import as_json as report_json  # noqa: PLC0415  # only when it is needed
    from cpuserve.bench.reload import measure_reloads  # noqa: PLC0415
    from cpuserve.models.repository import Repository  # noqa: PLC0415

    file = Repository(settings_from(config, flags).model_repository).find(model)
    with stepping(reloads, "reloads", shown=not (as_json or quiet)) as step:
        report = measure_reloads(
            *(file, image),
            reloads=reloads,
            connections=connections,
            over_grpc=round(connections * grpc_share),
            progress=lambda _done: step(1),
        )
    deliver(report_json(report), out, as_json=as_json)
    if not (as_json or quiet):
        click.echo(
            f"{report.reloads} reloads, {report.requests} requests: {len(report.lost)} lost, "
            f"{report.strays} from a wrong version\n"
            f"p99 {report.steady_p99_ms:.1f} ms steady, {report.reload_p99_ms:.1f} ms while reloading "
            f"({report.ratio:.2f}x; the limit is 3x): {'passed' if report.passed else 'FAILED'}"
        )
    if not report.passed:
        sys.exit(1)
