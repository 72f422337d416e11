"""`cpuserve video mask`: lets comments pass behind the people of a video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from cpuserve.cli.console import stepping
from cpuserve.cli.local_path import LocalPath
from cpuserve.cli.options import report_options, setting_options
from cpuserve.cli.video.model_options import MODEL_SETTINGS, model_option, model_settings, scaler_option

if TYPE_CHECKING:
    from cpuserve.video.scale import Scaler

__all__ = ["command"]

_OF_SEATS = {"workers", "cores_per_worker", "node_id"}  # one model uses all that this process may
_SETTINGS = [name for name in MODEL_SETTINGS if name not in _OF_SEATS]


@click.command("mask")
@click.argument("video", type=LocalPath(dir_okay=False, path_type=Path))
@model_option
@click.option(
    "-o",
    "--output",
    required=True,
    type=LocalPath(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where the player (index.html), the outlines (masks/*.svg) and mask.json are written.",
)
@click.option(
    "--classes",
    default="person",
    show_default=True,
    metavar="LABEL,...",
    help="Classes that comments pass behind, by label or number.",
)
@click.option(
    "--every",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Look at every Nth frame only; the outlines stay in between.",
)
@click.option(
    "--max-points",
    type=click.IntRange(4),
    default=200,
    show_default=True,
    help="Most points of the outlines of one frame.",
)
@click.option(
    "--comments",
    type=LocalPath(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Comments to begin with: JSON or JSON Lines with time (seconds), text, colour and mode.",
)
@click.option("--embed", is_flag=True, help="Put the video into the page; for videos up to 64 MB.")
@scaler_option
@report_options
@setting_options(*_SETTINGS)
def command(
    video: Path,
    model: str,
    output: Path,
    classes: str,
    every: int,
    max_points: int,
    comments: Path | None,
    embed: bool,
    scaler: Scaler,
    as_json: bool,
    quiet: bool,
    config: Path | None,
    **flags: Any,
) -> None:
    """Let comments pass behind the people of VIDEO.

    A segmentation model finds the people in its frames; their outlines are written as short SVG files. The
    player is one page, which plays VIDEO from where it is now: keep both together, or use --embed.

    \b
    Example:
      cpuserve video mask talk.mp4 --model deeplabv3_257_mv_gpu -o talk --comments comments.jsonl
    """
    from cpuserve.video.decoding import probe_apart  # noqa: PLC0415  # first: it names the extra

    frames = -(-probe_apart(video).frames // every)

    from cpuserve.video.comments import read_comments  # noqa: PLC0415
    from cpuserve.video.frame_model import open_frame_model  # noqa: PLC0415  # OpenVINO only when needed
    from cpuserve.video.mask import MaskOrder, mask_video  # noqa: PLC0415

    order = MaskOrder(
        video,
        output,
        [name for word in classes.split(",") if (name := word.strip())],
        every,
        max_points,
        read_comments(comments) if comments is not None else (),
        embed,
    )
    with (
        open_frame_model(model, model_settings(model, config, flags), scaler=scaler) as loaded,
        stepping(frames, "frames", shown=not (quiet or as_json)) as advance,
    ):
        report = mask_video(order, loaded, advance)
    if as_json:
        click.echo(orjson.dumps(report))
    elif not quiet:
        _show(report, output)


def _show(report: dict[str, Any], output: Path) -> None:
    kilobytes, a_minute = report["bytes"] / 1000, report["bytes_per_minute"] / 1000
    frames, changes, files = (_count(report[key], key) for key in ("frames", "changes", "files"))
    click.echo(
        f"{frames}, {changes} of the outlines in {files}: {kilobytes:.0f} kB, {a_minute:.0f} kB a minute"
    )
    for note in report["notes"]:
        click.echo(f"cpuserve: note: {note}", err=True)
    click.echo(f"open {output / report['page']}")


def _count(number: int, things: str) -> str:
    return f"{number} {things if number != 1 else things[:-1]}"
