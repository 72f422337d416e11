"""`cpuserve video infer`: runs a model on the frames of videos."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from cpuserve.cli.foreign_words import SuggestingChoice
from cpuserve.cli.local_path import LocalPath
from cpuserve.cli.options import json_option, setting_options, settings_from
from cpuserve.cli.video.model_options import (
    MODEL_SETTINGS,
    live_timeout_option,
    model_option,
    model_settings,
    scaler_option,
)
from cpuserve.cli.video.replica_options import REPLICA_OPTIONS, opened_replicas, replica_options
from cpuserve.cli.video.run_end import ended_by_signals
from cpuserve.errors import UsageError

if TYPE_CHECKING:
    from cpuserve.cli.video.progress import FrameProgress
    from cpuserve.video.infer import AnswerSource, InferOptions, InferSummary
    from cpuserve.video.outputs.frame_outputs import Format, OutputPlan
    from cpuserve.video.scale import Scaler
    from cpuserve.video.video_sources import VideoSource

__all__ = ["command"]


@click.command("infer")
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO...")
@model_option
@click.option(
    "-o",
    "--output",
    metavar="FILE|DIR",
    help="Write to a file, or each video to a file of its own in a directory (one that is there, or with a / "
    "at the end) [default: standard output].",
)
@click.option(
    "--format",
    "as_format",
    type=SuggestingChoice(["jsonl", "csv", "parquet", "mp4"]),
    help="JSON lines, tables with a row a box, or the videos with the answers drawn on them "
    "[default: by the suffix of the output, else jsonl].",
)
@click.option("--every", type=click.IntRange(1), default=1, metavar="N", help="Answer every Nth frame only.")
@click.option("--topk", type=click.IntRange(1), metavar="N", help="Number of classes [default: the model's].")
@scaler_option
@click.option("--track", is_flag=True, help="Number the tracks of boxes. Needs supervision and trackers.")
@click.option(
    "--zones",
    type=LocalPath(dir_okay=False, path_type=Path),
    metavar="FILE.toml",
    help="Count the boxes in named zones, as door = [[0.1,0.2],[0.4,0.2],[0.4,0.9]].",
)
@live_timeout_option
@click.option("--resume", is_flag=True, help="Go on with a run that was ended or killed.")
@click.option("--overwrite", is_flag=True, help="Replace outputs that are there.")
@json_option("Print the summary as one JSON object.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
@replica_options
@setting_options(*MODEL_SETTINGS)
def command(
    videos: tuple[str, ...],
    model: str,
    output: str | None,
    as_format: Format | None,
    every: int,
    topk: int | None,
    scaler: Scaler,
    track: bool,
    zones: Path | None,
    live_timeout_s: float,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    config: Path | None,
    **flags: Any,
) -> None:
    """Run a model on every frame of VIDEO...: files, directories, patterns, addresses such as rtsp://, or -.

    A frame's line has the answer of /predictions/MODEL. Live sources run until they end, or until Ctrl-C
    or SIGTERM. The exit code is 1 if a video cannot be read to its end; the others are done.

    \b
    Example:
      cpuserve video infer street.mp4 --model yolox_nano
      cpuserve video infer day1/ day2/ --model yolox_nano -o boxes.parquet
      cpuserve video infer street.mp4 --model yolox_nano -o street_boxes.mp4 --track
    """
    from cpuserve.cli.video.progress import FrameProgress  # noqa: PLC0415
    from cpuserve.video.infer import InferOptions  # noqa: PLC0415  # PyAV only when it is needed
    from cpuserve.video.outputs.frame_outputs import plan_output  # noqa: PLC0415
    from cpuserve.video.region import load_regions  # noqa: PLC0415
    from cpuserve.video.video_sources import find_videos  # noqa: PLC0415

    sources = find_videos(videos)
    regions = load_regions(zones) if zones else {}
    options = InferOptions(every, topk, scaler, track, regions, live_timeout_s)
    plan = None
    if output is not None:
        plan = plan_output(sources, Path(output), as_format, directory=output.endswith("/"))
    elif resume or as_format in ("parquet", "mp4"):
        raise UsageError(f"{'--resume' if resume else f'--format {as_format}'} needs a file: give -o FILE")
    again = "the same command with --resume goes on" if plan else ""
    with ended_by_signals(again), FrameProgress(sources, shown=not quiet) as watcher:
        given = (sources, options, plan, watcher, as_format or "jsonl")
        with _answers(model, config, flags, options, plan) as (answers, report):
            summary = _run(answers, *given, resume=resume, overwrite=overwrite)
            used = report()
    _show(summary, used, output, as_json=as_json, quiet=quiet)
    for name, error in summary.errors.items():
        click.echo(f"cpuserve: error: {error if name in error else f'{name}: {error}'}", err=True)
    sys.exit(1 if summary.errors else 0)


@contextmanager
def _answers(
    model: str, config: Path | None, flags: dict[str, Any], options: InferOptions, plan: OutputPlan | None
) -> Iterator[tuple[AnswerSource, Callable[[], dict[str, Any]]]]:
    """What answers the frames: the seats of this machine, or replicas; and what is to be reported of it."""
    from cpuserve.video.local_answers import LocalAnswers  # noqa: PLC0415
    from cpuserve.video.open_answers import open_answers  # noqa: PLC0415

    pictures = plan is not None and plan.as_format == "mp4"
    asked = {name: flags.pop(name) for name in REPLICA_OPTIONS}
    # with replicas the model need not be on this machine
    settings = settings_from(config, flags) if asked["replicas"] else model_settings(model, config, flags)
    replicas = opened_replicas(model, options.scaler, asked, settings)
    if replicas is None:
        with open_answers(model, settings, options, pictures=pictures) as answers:
            yield answers, dict
        return
    with LocalAnswers(replicas, options, pictures=pictures, max_pixels=settings.max_pixels) as elsewhere:
        yield elsewhere, replicas.report


def _run(
    answers: AnswerSource,
    sources: list[VideoSource],
    options: InferOptions,
    plan: OutputPlan | None,
    watcher: FrameProgress,
    as_format: Format,
    *,
    resume: bool,
    overwrite: bool,
) -> InferSummary:
    """Open the outputs, and answer the frames."""
    from cpuserve.video.infer import InferSummary, asked_of, infer, open_files  # noqa: PLC0415
    from cpuserve.video.outputs.frame_outputs import FrameStream  # noqa: PLC0415

    if plan is None:
        stream = FrameStream(sys.stdout.buffer, as_format)
        return infer(sources, answers, stream, options, watcher=watcher)
    asked = asked_of(answers, options)
    files, record = open_files(plan, sources, asked, resume=resume, overwrite=overwrite)
    if record.complete:
        return InferSummary(errors={name: error for name, error in record.done.items() if error})
    return infer(sources, answers, files, options, record=record, watcher=watcher)


def _show(
    summary: InferSummary, replicas: dict[str, Any], output: str | None, *, as_json: bool, quiet: bool
) -> None:
    """Print the summary: on stderr where the answers go to standard output."""
    aside = output is None
    if as_json:
        used = {"reference": replicas} if replicas else {}
        click.echo(orjson.dumps(summary.as_json() | used), err=aside)
    elif not quiet:
        click.echo(_text(summary), err=aside)


def _text(summary: InferSummary) -> str:
    if not summary.videos:
        return "all videos are done already"
    said = summary.as_json()
    before = f" ({summary.frames_before} more were there already)" if summary.frames_before else ""
    lines = [f"{summary.frames} frames of {summary.videos} videos in {summary.seconds:.1f} s{before}"]
    if summary.frames:
        parts = ", ".join(f"{name} {ms:.2f}" for name, ms in said["cpu_ms_per_frame"].items())
        lines.append(f"{summary.fps:.1f} frames a second; CPU-ms a frame: {parts}")
    if summary.dropped or summary.reconnects:
        lines.append(f"{summary.dropped} frames dropped, {summary.reconnects} reconnects")
    return "\n".join(lines)
