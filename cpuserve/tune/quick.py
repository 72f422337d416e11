"""The quick strategy: climbs from good places of a space to its best point; it measures through `Search`.

A pattern search (Hooke & Jeeves, "Direct search solution of numerical and statistical problems", 1961; as
compass search in Kolda, Lewis & Torczon, "Optimization by direct search", SIAM Review 45, 2003) over the
doublings of the settings:

* It starts from the best of the defaults, the hints' choices and a few points that lie as far from each other
  as they can (maximin, Johnson, Moore & Ylvisaker, "Minimax and maximin distance designs", 1990).
* A step goes along an axis: one setting, or several that scale together, because rules tie them (twice the
  cores a seat is half the workers) or because hardware does (rows in flight are streams x batch). A point
  that the rules have dropped is replaced by the nearest one that is left. A step that pays is gone on with.
* Where no step pays the best point is measured again, so that luck does not hold the place, and it starts
  anew from the best point that lies far from all places it has climbed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cpuserve.tune.objective import Standing
from cpuserve.tune.point import Point
from cpuserve.tune.search import Search
from cpuserve.tune.space import Space

__all__ = ["Quick"]

_FILLING = 8
_CLIMBS = 3
_TOGETHER: tuple[Mapping[str, float], ...] = (
    {"cores_per_worker": 1, "workers": -1, "inference_threads": 1, "streams": 1, "threads": 1},
    {"cores_per_worker": 1, "workers": -1, "inference_threads": 1, "threads": 1},
    {"use_logical_core": 1, "inference_threads": 1, "streams": 1, "threads": 1},
    {"streams": 1, "threads": 1},
    {"inference_threads": 1, "streams": 1, "threads": 1},
    {"streams": 1, "max_batch": -1},
)
"""Settings that scale together: seats with all that is in them, and rows in flight."""

Vector = npt.NDArray[np.float32]


class Quick:
    """Climbs; call it with a `Search`.

    Args:
        space: the points there are.
    """

    def __init__(self, space: Space) -> None:
        self._points = list(space.points)
        self._index = {point: number for number, point in enumerate(self._points)}
        steps = np.array(list(space.points.values()))
        vary = [column for column in range(steps.shape[1]) if len(np.unique(steps[:, column])) > 1]
        knobs = [list(space.values)[column] for column in vary]
        scales = [_scale(space.values[knob]) for knob in knobs]
        columns = [scale[steps[:, column]] for scale, column in zip(scales, vary, strict=True)]
        self._places = np.stack(columns, axis=1) if columns else np.zeros((len(steps), 0), np.float32)
        axes = [*_TOGETHER, *({knob: 1.0} for knob in knobs)]
        self._axes = [np.array([axis.get(knob, 0.0) for knob in knobs], np.float32) for axis in axes]
        self._known_ahead: dict[tuple[int, bytes], int | None] = {}

    def __call__(self, search: Search) -> None:
        """Climb, until there is nothing left to climb from or no room for a trial."""
        tried = [one.point for one in search.objective.standings(search.journal.trials)]
        known = [self._nearest(point) for point in tried]
        expected = search.expected_trials
        filling = _FILLING if expected is None else min(_FILLING, expected // 6)
        starts = [*known, *self._spread_out(known, filling)]
        climbed: list[int] = []
        for _ in range(_CLIMBS):
            ranked = self._ranked(search, starts)
            if climbed:
                ranked = self._far_ones(ranked, climbed)
            if not ranked:
                return
            climbed.append(self._climb(search, ranked[0]))
            starts = [number for number in starts if number != ranked[0]]

    def _climb(self, search: Search, start: int) -> int:
        here, times = start, 1
        while True:
            now = search.look(self._points[here], times=times)
            better = self._step(search, here, now)
            if better is not None:
                here, times = better, 1
            elif times == 2 or now is None:
                return here
            else:
                times = 2  # once more around with what the second measurement says

    def _step(self, search: Search, here: int, now: Standing | None) -> int | None:
        """The point that the first axis that pays leads to, as far as it pays."""
        for axis in self._axes:
            for direction in (axis, -axis):
                at, best = here, now
                while True:
                    ahead = self._ahead(at, direction)
                    if ahead is None:
                        break
                    found = search.look(self._points[ahead])
                    if not _better(found, best):
                        break
                    at, best = ahead, found
                if at != here:
                    return at
        return None

    def _ahead(self, here: int, direction: Vector) -> int | None:
        """The point nearest to where a step would lead; None where none lies that way."""
        key = (here, direction.tobytes())
        if key not in self._known_ahead:
            self._known_ahead[key] = self._find_ahead(here, direction)
        return self._known_ahead[key]

    def _find_ahead(self, here: int, direction: Vector) -> int | None:
        moved = self._places - self._places[here]
        onwards = moved @ direction > 0
        if not onwards.any():
            return None
        distance = np.abs(moved - direction).sum(axis=1)
        distance[~onwards] = math.inf
        return int(distance.argmin())

    def _nearest(self, point: Point) -> int:
        if point in self._index:
            return self._index[point]
        return self._index[Point()]

    def _spread_out(self, known: list[int], count: int) -> list[int]:
        """So many points, each as far as can be from those before it."""
        found = list(known)
        for _ in range(count):
            apart = np.min([self._apart(number) for number in found], axis=0)
            found.append(int(apart.argmax()))
        return found[len(known) :]

    def _apart(self, number: int) -> Vector:
        return np.asarray(np.abs(self._places - self._places[number]).sum(axis=1))

    def _ranked(self, search: Search, numbers: list[int]) -> list[int]:
        seen = {number: search.look(self._points[number]) for number in dict.fromkeys(numbers)}
        worked = [(one.excess, -one.score, number) for number, one in seen.items() if one is not None]
        return [number for _, _, number in sorted(worked)]

    def _far_ones(self, ranked: list[int], climbed: list[int]) -> list[int]:
        apart = np.min([self._apart(number) for number in climbed], axis=0)
        return [number for number in ranked if apart[number] >= np.median(apart) / 2]


def _better(one: Standing | None, other: Standing | None) -> bool:
    if one is None or other is None:
        return one is not None
    return (one.excess, -one.score) < (other.excess, -other.score)


def _scale(choices: tuple[Any, ...]) -> Vector:
    """Where each value lies: numbers of which doublings matter by their logarithm, others by their order."""
    if all(isinstance(value, int) and not isinstance(value, bool) and value > 0 for value in choices):
        return np.log2(np.array(choices, np.float32))
    return np.arange(len(choices), dtype=np.float32)
