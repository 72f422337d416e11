"""Reads the training videos once: small pictures of every frame, and what the reference answers to it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from cpuserve.errors import UsageError
from cpuserve.serving.decode import Pixels
from cpuserve.serving.engine import Array
from cpuserve.video.answer_store import AnswerStore, KeptAnswer
from cpuserve.video.answering_model import AnsweringModel
from cpuserve.video.decoding import Which, decode
from cpuserve.video.frame_model import SeenFrame
from cpuserve.video.label_plan import Stretch
from cpuserve.video.scale import Scale
from cpuserve.video.training_stage import FOR_REFERENCE, DecodeCostStage, TrainingFrame, TrainingStage
from cpuserve.video.video_file import VideoFile

__all__ = [
    "ClipRows",
    "Progress",
    "decode_costs",
    "disposable_frames",
    "read_clip",
    "reference_cost",
    "stage_0_notes",
]

Progress = Callable[[str, int, int], None]
"""Called with what is done, how many are done, and how many there are."""

_MEASURED = 24  # frames that the cost of the reference is measured on
_WORTH = 0.03  # share of decoding that leaving frames out has to save
_COST_FRAMES = 1500  # frames that the cost of decoding is measured on, of each video


@dataclass
class ClipRows:
    """The frames that were read, a row each.

    Attributes:
        video: i16 [n], place of the video.
        number: i64 [n], of the frame in it.
        time_s: f64 [n].
        packet_bytes: i64 [n].
        key: bool [n].
        first: bool [n], the first of a segment or of a stretch.
        sizes: by video: width and height of its frames, in pixels.
        pictures: by name: u8 [n, h, w, c].
        measured: rows of some frames, with their pictures for the reference and width and height.
        scale_s: CPU seconds a frame for the small pictures.
    """

    video: Array
    number: Array
    time_s: Array
    packet_bytes: Array
    key: Array
    first: Array
    sizes: dict[int, tuple[int, int]]
    pictures: dict[str, Array]
    measured: list[tuple[int, Pixels, int, int]]
    scale_s: float


def read_clip(
    videos: Sequence[VideoFile],
    stretches: Sequence[Stretch],
    small: Mapping[str, Scale],
    reference: AnsweringModel,
    stores: Sequence[AnswerStore] | None,
    scratch: Path,
    *,
    processes: int | None = None,
    report: Progress,
) -> ClipRows:
    """Decodes the stretches; frames without an answer go to the reference while the next ones are decoded.

    Args:
        videos: the files.
        stretches: of them, in order.
        small: scale by name of the small pictures.
        reference: labels frames.
        stores: the answers to each video, which grow; None asks the reference nothing.
        scratch: directory for the pictures.
        processes: that decode; None for as many as this process may use CPUs.
        report: of progress.

    Raises:
        VideoError: a file cannot be read.
        UsageError: there is no frame.
    """
    most = sum(stretch.stop - stretch.start for stretch in stretches)
    pictures = {
        name: open_memmap(scratch / f"{name}.npy", mode="w+", dtype=np.uint8, shape=(most, *scale.shape))
        for name, scale in small.items()
    }
    rows: list[tuple[Any, ...]] = []
    sizes: dict[int, tuple[int, int]] = {}
    measured: list[tuple[int, Pixels, int, int]] = []
    spent = 0.0
    for place, stretch in enumerate(stretches):
        video = videos[stretch.video]
        store = None if stores is None else stores[stretch.video]
        numbers = range(stretch.start, stretch.stop)
        wanted = [number for number in numbers if store is not None and number not in store]
        sample = numbers[:: max(1, len(numbers) // _MEASURED)] if place == 0 else []
        asking = _Asking(reference, store)
        stage = TrainingStage(small, reference.scale, [*wanted, *sample])
        for frame in decode(video, stage, processes=processes, start=stretch.start, stop=stretch.stop):
            facts: TrainingFrame = frame.value
            for name, column in pictures.items():
                column[len(rows)] = frame.pictures[name]
            if FOR_REFERENCE in frame.pictures:
                pixels = frame.pictures[FOR_REFERENCE].copy()
                if frame.number in sample:
                    measured.append((len(rows), pixels, facts.width, facts.height))
                asking.ask(frame.number, pixels, facts)
            spent += facts.scale_s
            sizes.setdefault(stretch.video, (facts.width, facts.height))
            rows.append((stretch.video, frame.number, frame.time_s, facts.packet_bytes, facts.key, place))
            report("frames read and labelled" if wanted else "frames read", len(rows), most)
        asking.finish()
    if not rows:
        raise UsageError(f"no frame could be decoded of {', '.join(str(video.path) for video in videos)}")
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return ClipRows(
        video=columns[0].astype(np.int16),
        number=columns[1],
        time_s=columns[2],
        packet_bytes=columns[3],
        key=columns[4],
        first=_first(videos, columns[0], columns[1], columns[5]),
        sizes=sizes,
        pictures={name: column[: len(rows)] for name, column in pictures.items()},
        measured=measured,
        scale_s=spent / len(rows),
    )


def decode_costs(
    videos: Sequence[VideoFile], stretches: Sequence[Stretch], *, report: Progress
) -> dict[str, float]:
    """CPU seconds a frame of the video to decode all frames, those that others need, and keyframes alone."""
    found = {}
    for done, which in enumerate(("all", "nonref", "nonkey")):
        spent, frames = 0.0, 0
        for stretch in {stretch.video: stretch for stretch in reversed(stretches)}.values():
            stop = min(stretch.stop, stretch.start + _COST_FRAMES)
            spent += sum(
                seconds for _, seconds in _decoded(videos[stretch.video], which, stretch.start, stop)
            )
            frames += stop - stretch.start
        found[f"decode:{which}"] = spent / frames
        report("decoding costs", done + 1, 3)
    return found


def disposable_frames(
    videos: Sequence[VideoFile], stretches: Sequence[Stretch], rows: ClipRows, *, report: Progress
) -> Array:
    """Frames that no other frame is predicted from, bool [n]: those that decoding without them leaves out."""
    kept = np.zeros(len(rows.number), bool)
    for done, stretch in enumerate(stretches):
        numbers = [
            number for number, _ in _decoded(videos[stretch.video], "nonref", stretch.start, stretch.stop)
        ]
        kept |= (rows.video == stretch.video) & np.isin(rows.number, numbers)
        report("frames that others need", done + 1, len(stretches))
    return ~kept


def stage_0_notes(costs: dict[str, float], disposable: Array) -> list[str]:
    """Says where decoding fewer frames has no effect.

    Where no frame is disposable nothing can be left out: what was measured as a gain is noise, and is undone
    in ``costs``.
    """
    if not disposable.any():
        costs["decode:nonref"] = costs["decode:all"]
        return ["decoding without frames that no other needs has no effect: this video has none"]
    saved = 1 - costs["decode:nonref"] / costs["decode:all"]
    if saved < _WORTH:
        return [f"decoding without frames that no other needs has no effect: it saves {max(saved, 0):.1%}"]
    return []


def reference_cost(
    reference: AnsweringModel, measured: Sequence[tuple[int, Pixels, int, int]], *, local: bool
) -> tuple[float, list[SeenFrame]]:
    """What the reference takes for some frames, and answers.

    Args:
        reference: the model.
        measured: `ClipRows.measured`.
        local: whether it runs in this process.

    Returns:
        Seconds a frame: CPU time of this process, or the time that replicas need; and the answers.
    """
    clock = time.process_time if local else time.monotonic
    reference.submit_seen(*measured[0][1:]).result()  # warm
    began = clock()
    answers = [reference.submit_seen(*frame[1:]).result() for frame in measured]
    return (clock() - began) / len(measured), answers


class _Asking:
    """Frames under way to the reference; answers are kept in the order of the frames."""

    def __init__(self, reference: AnsweringModel, store: AnswerStore | None) -> None:
        self._reference = reference
        self._store = store
        self._waiting: deque[tuple[int, TrainingFrame, Future[SeenFrame]]] = deque()

    def ask(self, number: int, pixels: Pixels, facts: TrainingFrame) -> None:
        if self._store is None or number in self._store:
            return
        self._waiting.append((number, facts, self._reference.submit_seen(pixels, facts.width, facts.height)))
        while self._waiting and self._waiting[0][2].done():
            self._keep()

    def finish(self) -> None:
        while self._waiting:
            self._keep()

    def _keep(self) -> None:
        number, facts, future = self._waiting.popleft()
        seen = future.result()
        if self._store is not None:
            self._store.put(number, KeptAnswer(seen.answer, facts.width, facts.height, seen.mask))


def _decoded(video: VideoFile, which: Any, start: int, stop: int) -> list[tuple[int, float]]:
    """Number and decoding seconds of the frames that come."""
    chosen: Which = which
    found = decode(video, DecodeCostStage(), which=chosen, start=start, stop=stop)
    return [(frame.number, frame.value) for frame in found]


def _first(videos: Sequence[VideoFile], video: Array, number: Array, stretch: Array) -> Array:
    segment = np.zeros(len(number), np.int64)
    for place, file in enumerate(videos):
        starts = np.array([part.start for part in file.segments])
        own = video == place
        segment[own] = np.searchsorted(starts, number[own], side="right")
    new = np.ones(len(number), bool)
    new[1:] = (np.diff(segment) != 0) | (np.diff(stretch) != 0)
    return new
