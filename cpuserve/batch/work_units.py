"""Divides the inputs of a job into units of work and these into shards; depends on the inputs alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from cpuserve.batch.sources import BatchInput

__all__ = ["VideoParts", "WorkUnit", "plan_units"]

_PICTURES = 32  # of a unit
_PART_FRAMES = 256  # at least, so that starting a part is rare


class VideoParts(NamedTuple):
    """Where a video may be divided.

    Attributes:
        frames: that it has; 0 where it cannot be read.
        starts: numbers of the first frames of parts that can be decoded apart from each other, ascending.
    """

    frames: int
    starts: Sequence[int]


@dataclass(frozen=True)
class WorkUnit:
    """Pictures, or frames of one video, that one worker answers.

    Attributes:
        number: of the unit.
        shard: number of the shard that its rows go to.
        inputs: the pictures, or the video alone.
        is_video: which of both.
        start: number of the first frame of a video.
        stop: number of the frame behind the last one; None for the end of the video.
        rows: how many are expected.
        picks: places of the pictures that are wanted; None for all.
    """

    number: int
    shard: int
    inputs: tuple[str, ...]
    is_video: bool
    start: int = 0
    stop: int | None = None
    rows: int = 1
    picks: tuple[int, ...] | None = None

    @property
    def wanted(self) -> tuple[int, ...]:
        """Places of the pictures that are wanted."""
        return tuple(range(len(self.inputs))) if self.picks is None else self.picks


def plan_units(
    inputs: Sequence[BatchInput], parts_of: Callable[[BatchInput], VideoParts], *, shard_rows: int, every: int
) -> Iterator[WorkUnit]:
    """The units of a job, in the order of its rows.

    Args:
        inputs: in the order of the rows.
        parts_of: says where a video may be divided.
        shard_rows: a shard ends with the unit in which it reaches so many rows.
        every: only frames with a number that this divides.
    """
    number = shard = filled = 0
    for is_video, group in groupby(inputs, lambda one: one.is_video):
        together = [*group]
        if is_video:
            pieces = _video_pieces(together, parts_of, every)
        else:
            pieces = _picture_pieces(together, shard_rows)
        for names, start, stop, rows in pieces:
            yield WorkUnit(number, shard, names, is_video, start, stop, rows)
            number, filled = number + 1, filled + rows
            if filled >= shard_rows:
                shard, filled = shard + 1, 0


_Piece = tuple[tuple[str, ...], int, int | None, int]


def _picture_pieces(pictures: Sequence[BatchInput], shard_rows: int) -> Iterator[_Piece]:
    names: list[str] = []
    for picture in pictures:
        names.append(picture.uri)
        if len(names) == min(_PICTURES, shard_rows):
            yield tuple(names), 0, None, len(names)
            names = []
    if names:
        yield tuple(names), 0, None, len(names)


def _video_pieces(
    videos: Sequence[BatchInput], parts_of: Callable[[BatchInput], VideoParts], every: int
) -> Iterator[_Piece]:
    for video in videos:
        frames, starts = parts_of(video)
        bounds = [0]
        for start in starts:
            if start - bounds[-1] >= _PART_FRAMES and frames - start >= _PART_FRAMES:
                bounds.append(start)
        for start, stop in zip(bounds, [*bounds[1:], None], strict=True):
            end = frames if stop is None else stop
            yield (video.uri,), start, stop, max(1, -(-end // every) - -(-start // every))
