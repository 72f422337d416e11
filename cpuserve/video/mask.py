"""Masks a video: finds where people are in its frames, and writes their outlines and a player."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from cpuserve.errors import CpuserveError, UsageError
from cpuserve.serving.decode import Pixels
from cpuserve.video.comments import Comment
from cpuserve.video.decoding import decode, probe_apart
from cpuserve.video.frame_model import FrameModel, SeenFrame
from cpuserve.video.mask_outlines import outline_path
from cpuserve.video.mask_player import embedded_video, player_page, relative_video
from cpuserve.video.mask_track import MaskTrack, MaskTrackWriter
from cpuserve.video.model_input import MODEL, ModelInput
from cpuserve.video.video_file import VideoFile

__all__ = ["MaskOrder", "mask_video"]

_SIDE = 320  # of masks, the longer one: models see little more, and coordinates are short
_PLAYED = frozenset(("h264", "vp8", "vp9", "av1"))
_PLAYED_FILES = frozenset((".mp4", ".m4v", ".mov", ".webm"))
_PAGE, _OUTLINES, _REPORT = "index.html", "masks", "mask.json"


@dataclass(frozen=True)
class MaskOrder:
    """What is asked for.

    Attributes:
        video: the file.
        folder: where everything is written.
        classes: labels, or numbers of classes, that comments pass behind.
        every: only frames with a number that this divides are looked at; the masks of the others are theirs.
        most_points: of the outlines of one moment.
        comments: that the player begins with.
        embed: put the video into the page.
    """

    video: Path
    folder: Path
    classes: Sequence[str] = ("person",)
    every: int = 1
    most_points: int = 200
    comments: Sequence[Comment] = ()
    embed: bool = False


def mask_video(
    order: MaskOrder, model: FrameModel, progress: Callable[[int], None] = lambda _count: None
) -> dict[str, Any]:
    """Find the outlines in a video and write ``masks/*.svg``, ``index.html`` and ``mask.json``.

    Args:
        order: what is asked for.
        model: a segmentation.
        progress: called with 1 for each frame that is done.

    Returns:
        The report, as it is in ``mask.json``.

    Raises:
        UsageError: the model makes no masks, has no such class, or the video is too large to be embedded.
        VideoError: the file cannot be read.
        CpuserveError: the folder cannot be written to.
    """
    classes = _class_ids(model, order.classes)
    video = probe_apart(order.video)
    address = embedded_video(order.video) if order.embed else relative_video(order.video, order.folder)
    # browsers count from the file's time 0, and a video may begin later, after its sound
    begin_s = max(0.0, float(int(video.pts[0]) * video.time_base))
    track, (width, height), frames = _track(order, video, model, classes, begin_s, progress)
    name = _shown(order.video.name)
    page = player_page(name, address, width, height, track, order.comments)
    notes = []
    if video.codec not in _PLAYED or order.video.suffix.lower() not in _PLAYED_FILES:
        notes.append(
            f"browsers do not play {video.codec} in {order.video.suffix or 'such a file'}: convert it, "
            f"as ffmpeg -i {name} -c:v libx264 -pix_fmt yuv420p {Path(name).stem}.mp4 does"
        )
    if not any(track.paths):
        notes.append(
            f"model {model.name} saw no {' or '.join(order.classes)} in any frame: does cpuserve predict see "
            "them in a picture? See mean, scale and colour order in cpuserve models"
        )
    report = {
        "video": _shown(str(order.video)),
        "model": model.name,
        "version": str(model.version),
        "classes": list(order.classes),
        "width": track.width,
        "height": track.height,
        "frames": frames,
        "every": order.every,
        "changes": len(track.times),
        "seconds": round(video.duration_s, 3),
        "files": len(track.files),
        "bytes": track.size_bytes,
        "bytes_per_minute": round(track.bytes_per_minute),
        "page": _PAGE,
        "page_bytes": len(page.encode()),
        "comments": len(order.comments),
        "notes": notes,
    }
    try:
        (order.folder / _REPORT).write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
        (order.folder / _PAGE).write_text(page, encoding="utf-8")
    except OSError as error:
        raise CpuserveError(f"{error.filename} cannot be written: {error.strerror}") from error
    return report


def _track(
    order: MaskOrder,
    video: VideoFile,
    model: FrameModel,
    classes: Sequence[int],
    begin_s: float,
    progress: Callable[[int], None],
) -> tuple[MaskTrack, tuple[int, int], int]:
    """The outlines of the frames, the size of a frame, and how many there were."""
    writer: MaskTrackWriter | None = None
    waiting: deque[tuple[float, Future[SeenFrame]]] = deque()
    size, count = (0, 0), 0
    wanted = np.zeros(256, bool)
    wanted[list(classes)] = True

    def take(made: MaskTrackWriter) -> None:
        time_s, future = waiting.popleft()
        mask = future.result().mask
        if mask is None:
            raise CpuserveError(f"model {model.name} made no mask")
        made.put(begin_s + time_s, outline_path(wanted[mask], order.most_points))
        progress(1)

    try:
        for frame in decode(video, ModelInput(model.scale), every=order.every):
            if writer is None:
                size = frame.value.width, frame.value.height
                width, height = _mask_size(*size)
                writer = MaskTrackWriter(order.folder / _OUTLINES, width, height, _shown(order.video.name))
            # a copy, since decoding may have room for fewer frames than the model has under way
            pixels: Pixels = frame.pictures[MODEL].copy()
            waiting.append((frame.time_s, model.submit_seen(pixels, width, height)))
            count += 1
            if len(waiting) >= model.in_flight:
                take(writer)
        if writer is None:
            raise CpuserveError(f"{order.video}: no frame could be decoded")
        while waiting:
            take(writer)
        return writer.finish(), size, count
    finally:
        if writer is not None:
            writer.discard()


def _shown(name: str) -> str:
    """A file's name as text, also where its bytes are none."""
    return os.fsencode(name).decode(errors="replace")


def _mask_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of the masks of a video; never more than its own."""
    share = min(1.0, _SIDE / max(width, height))
    return max(1, round(width * share)), max(1, round(height * share))


def _class_ids(model: FrameModel, classes: Sequence[str]) -> list[int]:
    """The numbers of classes that are given by label or number.

    Raises:
        UsageError: the model makes no masks, or has no such class.
    """
    labels = model.mask_labels
    if labels is None:
        raise UsageError(
            f"model {model.name} does not say which pixels are whose: masks need a segmentation, such as "
            "deeplabv3_257_mv_gpu (cpuserve pull has it); boxes would hide comments beside people too"
        )
    if not classes:
        raise UsageError("name at least one class that comments are to pass behind")
    found = []
    for name in classes:
        if name in labels:
            found.append(list(labels).index(name))
        elif name.isascii() and name.isdecimal() and int(name) < (len(labels) or 255):
            found.append(int(name))
        else:
            there = ", ".join(labels) or "the numbers from 0 to 254, as it has no labels"
            raise UsageError(f"model {model.name} has no class {name!r}; its classes are: {there}")
    return found
