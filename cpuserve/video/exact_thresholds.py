"""Finds exact thresholds of scores: the largest ``c_low`` and the smallest ``c_high`` within budgets."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cpuserve.video.cascade_choice import CopyTree, DecidedBy
from cpuserve.video.windows import LEAST_POSITIVE, WINDOW_FRAMES

__all__ = ["ExactThresholds", "single"]

_THIRD = WINDOW_FRAMES - LEAST_POSITIVE  # a window is positive from its third smallest score on


class ExactThresholds:
    """The thresholds of one network behind the copies of a choice.

    A window is missed when fewer than 28 of its frames stay positive: when ``c_low`` is above its third
    smallest score, a frame counting with the score of the one that it copies, or minus infinity where that
    one is negative anyway. So one pass over the windows and a sort give the exact threshold; in the same way
    for ``c_high``.

    Args:
        tree: the copies.
        scores: of the network, [n].
        label: the reference's, [n].
        positive: rows of the windows with the object, [p, 30].
        negative: rows of the windows without it, [q, 30].
    """

    def __init__(
        self,
        tree: CopyTree,
        scores: NDArray[np.float32],
        label: NDArray[np.bool_],
        positive: NDArray[np.int64],
        negative: NDArray[np.int64],
    ) -> None:
        self._tree, self._scores, self._label = tree, np.asarray(scores, np.float32), label
        self._positive, self._negative = positive, negative
        self._open = tree.stages == DecidedBy.REFERENCE
        self._fixed = np.where(tree.positive, np.float32(np.inf), np.float32(-np.inf))

    def within(
        self, missed: int, invented: int, shrink: float, frames: tuple[float, float] = (1.0, 1.0)
    ) -> tuple[float, float]:
        """``c_low`` and ``c_high`` with at most so many wrong windows.

        Args:
            missed: positive windows that may be labelled negative.
            invented: negative windows that may be labelled positive.
            shrink: what is left of the range of scores that the network decides; at 1, and where it could
                decide all, both are in the middle.
            frames: share of single frames with, and without the object that the network may get wrong: a
                short time has too few whole windows to tell.
        """
        low = _clipped(_rank(self._third_of_positive, missed, otherwise=0.0))
        low = min(low, _rank(self._positive_frames, int(frames[0] * len(self._positive_frames)), low))
        if shrink == 1:
            high = _clipped(-_rank(self._third_of_negative, invented, otherwise=-1.0))
            if high <= low:
                return (single((low + high) / 2),) * 2
        low = single(low * shrink)
        above = np.where(self._scores < low, np.float32(-np.inf), self._positive_above)
        high = _clipped(-_rank(self._ranked(above, self._negative, -1), invented, otherwise=-1.0))
        high = max(high, -_rank(self._negative_frames, int(frames[1] * len(self._negative_frames)), -high))
        return low, max(low, single(1 - (1 - high) * shrink))

    @cached_property
    def _positive_frames(self) -> NDArray[np.float32]:
        """Scores of the frames with the object that the network decides, ascending."""
        return np.sort(self._scores[self._open & self._label])

    @cached_property
    def _negative_frames(self) -> NDArray[np.float32]:
        """Those without it, negated, ascending."""
        return np.sort(-self._scores[self._open & ~self._label])

    @cached_property
    def _third_of_positive(self) -> NDArray[np.float32]:
        return self._ranked(np.where(self._label, self._scores, np.float32(-np.inf)), self._positive, 1)

    @cached_property
    def _third_of_negative(self) -> NDArray[np.float32]:
        return self._ranked(self._positive_above, self._negative, -1)

    @cached_property
    def _positive_above(self) -> NDArray[np.float32]:
        """A frame is positive when this is above ``c_high``, [n]."""
        return np.where(self._label, np.float32(np.inf), self._scores)

    def _ranked(
        self, scores: NDArray[np.float32], windows: NDArray[np.int64], sign: int
    ) -> NDArray[np.float32]:
        """The third smallest score of each window, times ``sign``, ascending."""
        given = np.where(self._open, scores, self._fixed)[self._tree.roots]
        gathered = given[windows]
        gathered.partition(_THIRD, axis=1)
        return np.sort(sign * gathered[:, _THIRD])


def single(threshold: float) -> float:
    """A threshold as scores are: of single precision, so that it compares alike everywhere."""
    return float(np.float32(threshold))


def _rank(ascending: NDArray[np.float32], allowed: int, otherwise: float) -> float:
    """The largest threshold with at most so many below it; ``otherwise`` where no window could tell."""
    return float(ascending[allowed]) if allowed < len(ascending) else otherwise


def _clipped(threshold: float) -> float:
    return min(max(threshold, 0.0), 1.0)
