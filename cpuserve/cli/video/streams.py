"""`cpuserve video streams`: finds how many streams this machine carries."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from cpuserve.cli.console import show_table
from cpuserve.cli.number_range import NumberRange
from cpuserve.cli.options import json_option, setting_options
from cpuserve.cli.video.model_options import MODEL_SETTINGS, model_option, model_settings, scaler_option
from cpuserve.errors import UsageError

if TYPE_CHECKING:
    from cpuserve.video.scale import Scaler
    from cpuserve.video.stream_search import StreamBound
    from cpuserve.video.streams import StreamMachine, TrialResult

__all__ = ["command"]


@click.command("streams")
@click.argument("source")
@model_option
@click.option(
    "--fps",
    type=NumberRange(0, min_open=True),
    default=5.0,
    show_default=True,
    help="Frames a second of each stream that are inferred; all are decoded.",
)
@click.option(
    "--seconds",
    type=NumberRange(1),
    default=10.0,
    show_default=True,
    help="Of each trial; there are about ten.",
)
@click.option(
    "--lateness-ms",
    type=NumberRange(0, min_open=True),
    help="How late 1 % of the answers may be [default: the time between two inferred frames].",
)
@click.option("--most", type=click.IntRange(1), default=1000, show_default=True, help="End the search there.")
@scaler_option
@json_option("Print the result as one JSON object.")
@click.option("--quiet", is_flag=True, help="Print no progress.")
@setting_options(*MODEL_SETTINGS)
def command(
    source: str,
    model: str,
    fps: float,
    seconds: float,
    lateness_ms: float | None,
    most: int,
    scaler: Scaler,
    as_json: bool,
    quiet: bool,
    config: Path | None,
    **flags: Any,
) -> None:
    """Find how many cameras like SOURCE this machine carries, by running them.

    Each stream plays SOURCE in real time: a video file, or a camera's address, of which the first --seconds
    are recorded and played again and again. A number of streams works when no frame is dropped
    and 99 % of the answers are in time. The number that is found and one more are tried twice. The result
    says which stage limits. Other programs should be quiet; what they used is told.

    \b
    Example:
      cpuserve video streams camera.mp4 --model yolox_nano --fps 5
    """
    from cpuserve.video.stream_search import find_most  # noqa: PLC0415  # PyAV only when it is needed
    from cpuserve.video.streams import StreamMachine, streams_report  # noqa: PLC0415

    settings = model_settings(model, config, flags)
    limit_s = None if lateness_ms is None else lateness_ms / 1e3
    given = {"fps": fps, "seconds": seconds, "limit_s": limit_s, "scaler": scaler}
    with ExitStack() as opened:
        file, shown = _file_of(source, seconds, settings.max_pixels, opened)
        machine = opened.enter_context(
            StreamMachine(file, model, settings, name=shown, **given)  # type: ignore[arg-type]
        )
        if fps > machine.fps and not quiet:
            click.echo(
                f"cpuserve: note: the source has {machine.fps:g} frames a second: --fps {fps:g} infers all",
                err=True,
            )

        def trial(streams: int) -> TrialResult:
            result = machine.run(streams)
            if not quiet:
                click.echo(_line(result), err=True)
            return result

        bound = find_most(trial, most)
    if as_json:
        click.echo(orjson.dumps(streams_report(machine, bound)))
    else:
        _show(machine, bound)
    sys.exit(0 if bound.streams else 1)


def _file_of(source: str, seconds: float, max_pixels: int, opened: ExitStack) -> tuple[Path, str]:
    """The file to play, and how the source is shown.

    Raises:
        UsageError: it is not one video.
        VideoError: it is live and cannot be recorded.
    """
    from cpuserve.video.source_recording import recorded  # noqa: PLC0415
    from cpuserve.video.video_sources import find_videos  # noqa: PLC0415

    found = find_videos([source])
    if len(found) != 1:
        raise UsageError(f"{source} are {len(found)} videos: name the one that all streams are like")
    if not found[0].live:
        return found[0].path, found[0].place
    return opened.enter_context(recorded(found[0], seconds, max_pixels)), found[0].name


def _line(result: TrialResult) -> str:
    word = "in time" if result.passed else "not in time"
    parts = f"p99 {result.p99_s * 1e3:.0f} ms, {result.counts.dropped} dropped, CPUs {result.busy:.0%} busy"
    return f"{_streams(result.streams)}: {word} ({parts}, others {result.other_cores:.1f} CPUs)"


def _show(machine: StreamMachine, bound: StreamBound[TrialResult]) -> None:
    from rich.table import Table  # noqa: PLC0415

    from cpuserve.video.streams import limiting_stage  # noqa: PLC0415

    video, limit = machine.video, limiting_stage(bound)
    title = (
        f"{_streams(bound.streams)} of {video.width}x{video.height} {video.codec} at {video.frame_rate:.3g} "
        f"frames a second, {machine.name} on {machine.fps:g} of them"
    )
    table = Table("streams", "in time", "p99 ms", "dropped", "busy", "others", "decode", "scale", "inference")
    table.title, table.caption = (
        title,
        "busy and others: of the CPUs; CPU-ms a frame: decode, scale, inference",
    )
    for _, result in sorted(bound.trials, key=lambda one: one[0]):
        row = [str(result.streams), "yes" if result.passed else "no", f"{result.p99_s * 1e3:.0f}"]
        row += [str(result.counts.dropped), f"{result.busy:.0%}", f"{result.other_cores:.1f}"]
        table.add_row(*row, *(f"{result.cpu_ms(part):.2f}" for part in ("decode", "scale", "inference")))
    show_table(table)
    if limit is None:
        work = "works" if bound.streams == 1 else "work"
        click.echo(f"{_streams(bound.streams)} {work}, and no more were tried (--most)")
    else:
        click.echo(f"not one more, by {limit.name}: {limit.why}")


def _streams(count: int) -> str:
    return f"{count} stream{'' if count == 1 else 's'}"
