"""A pipeline that keeps a copy of each request and of its outputs, for another version to answer it too."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from cpuserve.serving.engine import Array
from cpuserve.serving.picture_input import Encoded, PictureSize, ScaledPicture
from cpuserve.serving.pipeline import Pipeline, Seen
from cpuserve.serving.request import Request
from cpuserve.serving.row_source import RowSource, arrays_of

__all__ = ["MOST_ROWS", "AnsweredRequest", "ShadowedPipeline", "shadowed"]

MOST_ROWS = 8
"""Rows of a request that are kept; the others are answered as without a shadow."""

Outputs = Sequence[Array]


@dataclass(frozen=True)
class AnsweredRequest:
    """What the stable version was asked and answered.

    Attributes:
        pictures: whole files, or pixels; none for tensors.
        tensors: one array an input; none for pictures.
        outputs: of each row, one array an output without the batch dimension.
        frames: size of each picture.
        infer_ns: inference, for all rows.
        cpu_ns: CPU time of the thread that answered.
        rows: how many rows the request had, of which at most `MOST_ROWS` are here.
    """

    pictures: Sequence[bytes | ScaledPicture]
    tensors: Sequence[Array]
    outputs: Sequence[Outputs]
    frames: Sequence[PictureSize]
    infer_ns: int
    cpu_ns: int
    rows: int

    @property
    def size_bytes(self) -> int:
        """Bytes that it holds."""
        sent = sum(len(one) if isinstance(one, bytes) else one.pixels.nbytes for one in self.pictures)
        kept = sum(array.nbytes for row in self.outputs for array in row)
        return sent + kept + sum(array.nbytes for array in self.tensors)


@dataclass(frozen=True)
class ShadowedPipeline(Pipeline):
    """A version without its cache, which hands on what it was asked and answered.

    Attributes:
        hand_on: takes it, at once and whatever happens; called by the thread that answers.
    """

    hand_on: Callable[[AnsweredRequest], None] = field(kw_only=True)

    def _look(
        self,
        picture: Encoded | ScaledPicture,
        request: Request,
        topk: int | None,
        look: Callable[[Sequence[Array], int | None, PictureSize], Seen],
    ) -> Seen:
        kept: list[tuple[Outputs, PictureSize]] = []

        def keep(outputs: Sequence[Array], topk: int | None, frame: PictureSize) -> Seen:
            kept.append(([np.array(output) for output in outputs], frame))  # `look` may overwrite them
            return look(outputs, topk, frame)

        clock = _Clock(request)
        seen = super()._look(picture, request, topk, keep)
        ((outputs, frame),) = kept
        self.hand_on(AnsweredRequest([_copied(picture)], [], [outputs], [frame], *clock.spent(), 1))
        return seen

    def _run_pictures(
        self, pictures: Sequence[Encoded], request: Request, frames: dict[int, PictureSize] | None
    ) -> list[list[Array]]:
        found_frames: dict[int, PictureSize] = {} if frames is None else frames
        clock = _Clock(request)
        found = super()._run_pictures(pictures, request, found_frames)
        count = min(len(pictures), MOST_ROWS)
        if self.batch.free:
            rows = [[np.array(output[place]) for output in found[0]] for place in range(count)]
        else:
            rows = [[np.array(output[0]) for output in outputs] for outputs in found[:count]]
        sent = [_copied(picture) for picture in pictures[:count]]
        sizes = [found_frames[place] for place in range(count)]
        self.hand_on(AnsweredRequest(sent, [], rows, sizes, *clock.spent(), len(pictures)))
        return found

    @property
    def takes_sources(self) -> bool:
        """The rows are asked of another version too."""
        return False

    def infer(self, tensors: Sequence[Array | RowSource], request: Request) -> list[Array]:
        """As `Pipeline.infer`."""
        clock = _Clock(request)
        found = super().infer(tensors, request)
        whole = not self.batch.free
        rows = 1 if whole else len(found[0])
        count = min(rows, MOST_ROWS)
        sent = [np.array(tensor if whole else tensor[:count]) for tensor in arrays_of(tensors)]
        kept = rows_of(self, found, count)
        frames = [self.input_size] * count
        self.hand_on(AnsweredRequest([], sent, kept, frames, *clock.spent(), rows))
        return found


def rows_of(pipeline: Pipeline, outputs: Sequence[Array], count: int) -> list[Outputs]:
    """The outputs of each row for tensors, without the batch dimension, as copies."""
    if pipeline.batch.free:
        return [[np.array(output[place]) for output in outputs] for place in range(count)]
    pairs = zip(pipeline.outputs, outputs, strict=True)
    return [[np.array(output[0] if port.outer == (1,) else output) for port, output in pairs]]


class _Clock:
    """Measures inference and CPU time of a part of a request."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._infer_ns, self._cpu_ns = request.stages_ns["infer"], time.thread_time_ns()

    def spent(self) -> tuple[int, int]:
        """Nanoseconds of inference and of CPU since."""
        return (
            self._request.stages_ns["infer"] - self._infer_ns,
            time.thread_time_ns() - self._cpu_ns,
        )


def _copied(picture: Encoded | ScaledPicture) -> bytes | ScaledPicture:
    if isinstance(picture, ScaledPicture):
        return replace(picture, pixels=np.array(picture.pixels))
    return bytes(picture)


def shadowed(pipeline: Pipeline, hand_on: Callable[[AnsweredRequest], None]) -> ShadowedPipeline:
    """A version that hands on what it was asked and answered; its requests count as before."""
    own: dict[str, Any] = {part.name: getattr(pipeline, part.name) for part in fields(Pipeline)}
    return ShadowedPipeline(**own, hand_on=hand_on)
