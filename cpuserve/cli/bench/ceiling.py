"""`cpuserve bench ceiling`: compares a server with the same work without HTTP."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from cpuserve.cli.console import stepping
from cpuserve.cli.figures import deliver, figures_options
from cpuserve.cli.number_range import NumberRange
from cpuserve.cli.options import OWN_SERVER, pictures_option, setting_options, settings_from
from cpuserve.errors import UsageError

__all__ = ["command"]


@click.command("ceiling")
@click.argument("model")
@pictures_option
@click.option(
    "--concurrency", type=click.IntRange(1), default=16, show_default=True, help="Number of clients."
)
@click.option(
    "--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds of one window each way."
)
@click.option(
    "--window-seconds", type=NumberRange(0.1), default=4.0, show_default=True, help="Length of a window."
)
@figures_options
@setting_options(*OWN_SERVER)
def command(
    *,
    model: str,
    images: Path | None,
    concurrency: int,
    rounds: int,
    window_seconds: float,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    config: Path | None,
    **flags: Any,
) -> None:
    """Measure a server of MODEL and, by turns, the same decoding, resizing and inference without HTTP.

    Without HTTP there is one process for each seat, with the CPUs and threads of the server's workers. That
    is the ceiling: the most this machine can do. The ratios show how close the server comes to it. A ratio of
    CPU time of 1.00 means that HTTP takes no time.

    \b
    Exit codes: 0 done, 1 requests were not answered 200 (or it could not be measured),
    2 wrong options.

    \b
    Example:
      cpuserve bench ceiling mobilenet_v2_1.0_224_quant --images photos --concurrency 16
    """
    from cpuserve.bench.ceiling import measure_ceiling  # noqa: PLC0415  # not for --help
    from cpuserve.measuring.engine_load import SeatProcesses  # noqa: PLC0415
    from cpuserve.measuring.local_server import local_server  # noqa: PLC0415
    from cpuserve.measuring.pictures import pictures  # noqa: PLC0415
    from cpuserve.measuring.target import ask_once, target_at  # noqa: PLC0415
    from cpuserve.models.repository import Repository  # noqa: PLC0415

    settings = settings_from(config, flags)
    model = Repository(settings.model_repository).find(model).name
    if settings.for_model(model, {}).result_cache_bytes:
        raise UsageError("a result cache answers without computing: measure with result_cache_bytes = 0")
    with (
        pictures(images) as sent,
        local_server(model, flags, config) as local,
        SeatProcesses(model, flags, config, sent.files) as seats,
        stepping(rounds, "rounds", shown=not (as_json or quiet)) as step,
    ):
        target = target_at(local.url, model, "predictions")
        ask_once(target, sent.files[0])
        found = measure_ceiling(
            target,
            seats,
            sent.files,
            connections=concurrency,
            rounds=rounds,
            seconds=window_seconds,
            done=lambda: step(1),
        )
        threads = [seat.threads for seat in seats.seats]
    figures = {"model": model, "pictures": sent.name, "threads_by_seat": threads, **found.figures()}
    if not (as_json or quiet):
        _show(figures)
    deliver(figures, out, as_json=as_json)
    sys.exit(1 if found.errors else 0)


def _show(figures: dict[str, Any]) -> None:
    inside, served = figures["in_process"], figures["served"]
    for title, key, where in (
        ("CPU-ms an image", "cpu_ms", "cpu_ratio"),
        ("images/s", "images_per_s", "images_per_s_ratio"),
    ):
        ratio, here, there = figures[where], served[key]["median"], inside[key]["median"]
        click.echo(
            f"{title + ':':17}{here:9.2f} served, {there:9.2f} in process; ratio {here / there:.3f} "
            f"(of the rounds: median {ratio['median']:.3f}, {ratio['least']:.3f} to {ratio['most']:.3f})"
        )
    foreign = max(one["served"]["foreign_cores"] for one in figures["rounds"])
    click.echo(
        f"medians of {len(figures['rounds'])} rounds; "
        f"{served['connections']} clients; seats with {figures['threads_by_seat']} threads; "
        f"others used up to {foreign:.2f} cores"
    )
    click.echo(f"pictures: {figures['pictures']}")
    if served["errors"]:
        click.echo(f"errors: {served['errors']}")
