"""Looks at a few frames of each window of 30: enough to tell whether all of it has the object.

A window is positive when at least 28 of its frames are. With looks from its third frame to its third last
one, and each label copied up to the next look, that is so exactly when every look says yes. So one look that
says no decides a window, and the reference need not be asked about the others. It is asked about those first
that the network takes for the least likely.

A network may be unsure of single frames and sure of a window: it may give a frame of a positive window as
little as the frames of an empty one get, but hardly ever half of its looks. So a window is negative, too,
when half of its looks have less than a threshold that is far above the one for a single look.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cpuserve.video.windows import LEAST_POSITIVE, WINDOW_FRAMES, clopper_pearson

if TYPE_CHECKING:
    from cpuserve.video.guarantee import Budgets
    from cpuserve.video.score_table import ScoreTable

__all__ = ["ASKED", "LOOKS", "LookedAt", "WindowScores", "half_of", "replay_looks"]

_FIRST, _LAST = WINDOW_FRAMES - LEAST_POSITIVE, LEAST_POSITIVE - 1
_COUNTS = (2, 3, 4, 6)
_LEAST = 1e-6  # of a probability, and of one minus it, whose logit is taken
_NEAR = 5  # frames around a change of the label, which windows forgive where they begin elsewhere

LOOKS = tuple(tuple(int(place) for place in np.linspace(_FIRST, _LAST, count)) for count in _COUNTS)
"""Places in a window that a cascade may look at, by their number."""

ASKED = (1, 2, 3, WINDOW_FRAMES)
"""Looks at a window that the reference is asked about at most."""


def half_of(looks: tuple[int, ...]) -> int:
    """How many looks at a window are half of them."""
    return len(looks) // 2


@dataclass(frozen=True)
class LookedAt:
    """What the looks at the windows of a table say.

    Attributes:
        labels: of each frame, [n].
        own: frames that the network decides, also those that the reference need not be asked about, [n].
        asked: frames that the reference decides, [n].
        roots: the row whose label each frame has, [n].
    """

    labels: NDArray[np.bool_]
    own: NDArray[np.bool_]
    asked: NDArray[np.bool_]
    roots: NDArray[np.int64]


def replay_looks(
    table: ScoreTable,
    looks: tuple[int, ...],
    scores: NDArray[np.float32] | None,
    thresholds: tuple[float, float, float],
    most_asked: int,
) -> LookedAt:
    """Label each frame as the running cascade does.

    The network decides looks below the first threshold and above the third, and says no to the look with
    which half of a window are below the second. If it says no to none of a window and segment, the reference
    is asked about the others, the one with the smallest score first, until it says no; when it has said yes
    to ``most_asked`` of them, all the rest are positive. All frames that nothing decides copy the label
    before them; those before the first of their video are negative.

    Args:
        table: labels, numbers and segments.
        looks: places in a window, ascending.
        scores: of the network, [n]; None for none.
        thresholds: of the network: ``c_low``, ``c_half`` and ``c_high``.
        most_asked: looks at a window that the reference is asked about.
    """
    number, label = np.asarray(table.number), np.asarray(table.label, bool)
    rows = np.arange(len(table))
    seen = np.flatnonzero(np.isin(number % WINDOW_FRAMES, looks))
    names = np.stack([table.video[seen], number[seen] // WINDOW_FRAMES, np.cumsum(table.first)[seen]])
    new = np.ones(len(seen), bool)
    new[1:] = (np.diff(names) != 0).any(axis=0)
    scope = np.cumsum(new) - 1
    known = np.full(len(seen), np.float32(0.5)) if scores is None else scores[seen]
    below = known < thresholds[0] if scores is not None else np.zeros(len(seen), bool)
    above = known > thresholds[2] if scores is not None else np.zeros(len(seen), bool)
    if scores is not None:
        little = known < thresholds[1]
        count = np.cumsum(little)
        count = count - (count - little)[np.flatnonzero(new)][scope]  # within the window
        below |= little & (count == half_of(looks))
    denied = np.bincount(scope[below], minlength=int(new.sum())) > 0
    left = ~(below | above | denied[scope])
    order = np.lexsort((seen, known, ~left, scope))  # those left open first, within their window
    asked = np.zeros(len(seen), bool)
    rank = np.arange(len(seen)) - np.flatnonzero(new)[scope]
    refused = (left & ~label[seen])[order] & (rank < most_asked)
    before = np.cumsum(refused) - refused
    asked[order] = left[order] & (rank < most_asked) & (before == before[new][scope])
    stopped = np.bincount(scope[asked & ~label[seen]], minlength=len(denied)) > 0
    accepted = left & ~asked & ~stopped[scope]
    found = LookedAt(label.copy(), np.zeros(len(rows), bool), np.zeros(len(rows), bool), rows.copy())
    found.own[seen[below | above | accepted]] = True
    found.asked[seen[asked]] = True
    found.labels[seen[below]] = False
    found.labels[seen[above | accepted]] = True
    roots = np.maximum.accumulate(np.where(found.own | found.asked, rows, -1))
    none = (roots < 0) | (table.video[roots] != table.video)
    found.roots[:] = np.where(none, rows, roots)
    found.labels[:] = found.labels[found.roots] & ~none
    return found


class WindowScores:
    """The looks at windows that begin at each frame: so much does not depend on where the first one begins.

    Args:
        rows: of each window, [w, 30].
        truth: true label of each window, [w].
        label: of each frame, [n].
        looks: places in a window, ascending.
        scores: of a network, [n]; None for none.
    """

    def __init__(
        self,
        rows: NDArray[np.int64],
        truth: NDArray[np.bool_],
        label: NDArray[np.bool_],
        looks: tuple[int, ...],
        scores: NDArray[np.float32] | None,
    ) -> None:
        seen = rows[:, list(looks)]
        self._truth, self._label, self._half = truth, label[seen], half_of(looks)
        self._scores = None if scores is None else np.asarray(scores, np.float32)[seen]
        begins = np.flatnonzero(np.diff(label, prepend=~label[:1]))  # where runs of a label begin
        self._peaks = np.zeros(0, np.float32)  # of the runs without the object, descending
        if scores is not None and len(label):
            self._peaks = np.sort(np.maximum.reduceat(scores, begins)[~label[begins]])[::-1]
        near = np.convolve(np.diff(label, prepend=label[:1]), np.ones(2 * _NEAR), "same") > 0
        self._steady = [
            np.zeros(0, np.float32) if scores is None else np.sort(scores[(label == value) & ~near])
            for value in (False, True)
        ]

    def within(
        self, missed: int, invented: int, shrink: float, frames: tuple[float, float] = (1.0, 1.0)
    ) -> tuple[float, float]:
        """``c_low`` and ``c_high`` with at most so many windows wrong that the reference had right.

        Args:
            missed: positive windows that may be labelled negative.
            invented: negative windows that may be labelled positive.
            shrink: what is left of the range of scores that the network decides.
            frames: share of single frames with, and without the object that the network may get wrong, but
                for those around a change of the label: a short time has too few whole windows to tell.
        """
        if self._scores is None:
            return 0.0, 1.0
        truth = self._truth
        never = np.asarray(truth & ~self._label.all(axis=1))
        least = np.sort(self._scores[truth & ~never].min(axis=1))
        low = float(least[missed]) if missed < len(least) else 0.0
        without, with_object = self._steady
        if int(frames[0] * len(with_object)) < len(with_object):
            low = min(low, float(with_object[int(frames[0] * len(with_object))]))
        low *= shrink
        # a window is falsely positive when all looks that the reference would refuse are above ``c_high``
        refused = np.where(self._label, np.float32(np.inf), self._scores).min(axis=1)
        open_ = ~truth & (self._scores.min(axis=1) >= low) & ~self._label.all(axis=1)
        most = np.sort(refused[open_])[::-1]
        high = float(most[invented]) if invented < len(most) else 0.0
        if invented >= np.count_nonzero(~truth):  # no window could tell
            high = 1.0
        if int(frames[1] * len(without)) < len(without):
            high = max(high, float(without[-1 - int(frames[1] * len(without))]))
        if shrink == 1 and high <= low:
            return ((low + high) / 2,) * 2
        return low, max(low, 1 - (1 - high) * shrink)

    def highest_without(self, budgets: Budgets) -> float:
        """The score that no frame without the object exceeds: where one does, the reference is not asked.

        Runs of frames without it are what is counted. Some may exceed the score where there are so many of
        them that the bound of their share keeps the budget all the same.
        """
        if self._scores is None or not len(self._peaks):
            return 0.0
        count, tolerated = len(self._peaks), 0
        while clopper_pearson(tolerated + 1, count, 1 - 2 * budgets.alpha)[1] <= budgets.fp:
            tolerated += 1
        return float(self._peaks[tolerated])

    def half(self, shrink: float) -> float:
        """``c_half`` with which no positive window is missed that the reference had right.

        Of each window that score counts which half of its looks have at most: the least that a positive
        window has, and of a caution as far from there to what the median negative window has, in logits, as
        ``shrink`` leaves. Where these are on the wrong sides of each other the network tells nothing: 0.

        Args:
            shrink: what is left of the range of scores that the network decides.
        """
        right = self._truth & self._label.all(axis=1)
        if self._scores is None or not right.any() or self._truth.all():
            return 0.0
        half = np.sort(self._scores, axis=1)[:, self._half - 1].astype(float)
        least, typical = half[right].min(), np.median(half[~self._truth])
        if least <= typical or shrink == 1:
            return float(least) if least > typical else 0.0
        return float(_expit(shrink * _logit(least) + (1 - shrink) * _logit(typical)))

    def decided(
        self, low: float, high: float, most_asked: int, half: float = 0.0
    ) -> tuple[int, int, float, float]:
        """What comes of thresholds.

        Returns:
            Positive windows that are missed, negative ones that are reported, and the shares of frames that
            the network and the reference decide.
        """
        nothing = np.zeros(self._label.shape, bool)
        below = nothing if self._scores is None else self._scores < low
        above = nothing if self._scores is None else self._scores > high
        if self._scores is not None:
            little = self._scores < half
            below |= little & (np.cumsum(little, axis=1) == self._half)
        left = ~(below | above | below.any(axis=1, keepdims=True))
        keys = np.where(left, 0.5 if self._scores is None else self._scores, np.inf)
        order = np.argsort(keys, axis=1, kind="stable")[:, :most_asked]
        wanted = np.take_along_axis(left, order, axis=1)
        refused = wanted & ~np.take_along_axis(self._label, order, axis=1)
        asked = wanted & (np.cumsum(refused, axis=1) - refused == 0)
        found = np.asarray(~(below.any(axis=1) | refused.any(axis=1)))
        frames = max(1, len(found)) * WINDOW_FRAMES
        accepted = int(left[found].sum()) - int(wanted[found].sum())
        own, others = (int((below | above).sum()) + accepted) / frames, int(asked.sum()) / frames
        missed, invented = self._truth & ~found, ~self._truth & found
        return int(missed.sum()), int(invented.sum()), own, others


def _logit(probability: float) -> float:
    kept = min(max(float(probability), _LEAST), 1 - _LEAST)
    return math.log(kept / (1 - kept))


def _expit(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))
