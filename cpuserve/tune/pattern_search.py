"""The strategy ``quick``: a pattern search that climbs from several good points.

A pattern search (Hooke & Jeeves, "Direct search solution of numerical and statistical problems", 1961; as
compass search in Kolda, Lewis & Torczon, "Optimization by direct search", SIAM Review 45, 2003) over the
doublings of the settings:

* It starts from the best of the defaults, the hints' choices and a few points drawn at random; points as far
  apart as can be are corners of the space, and climbs from there ended lower.
* A step goes along an axis: one setting, or several that scale together, because rules tie them (twice the
  cores a seat is half the workers) or because hardware does (rows in flight are streams x batch). A point
  that the rules have dropped is replaced by the nearest one that is left. A step that pays is gone on with.
* Where no step pays the point and the neighbours that tie with it are measured again, so that luck holds no
  place. Then it climbs from the best start that lies far from all places it has climbed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cpuserve.tune.objective import Standing
from cpuserve.tune.point_grid import PointGrid
from cpuserve.tune.search import Search
from cpuserve.tune.space import Space

__all__ = ["PatternSearch"]

_STARTS = 16
_DRAW = 1
_TRIALS_A_START = 6
_CLIMBS = 8
_TOGETHER: tuple[Mapping[str, float], ...] = (
    {"cores_per_worker": 1, "workers": -1, "inference_threads": 1, "streams": 1, "threads": 1},
    {"cores_per_worker": 1, "workers": -1, "inference_threads": 1, "threads": 1},
    {"use_logical_core": 1, "inference_threads": 1, "streams": 1, "threads": 1},
    {"streams": 1, "threads": 1},
    {"inference_threads": 1, "streams": 1, "threads": 1},
    {"streams": 1, "max_batch": -1},
    {"streams": 1, "share_weights": -1},
    {"use_logical_core": 1, "cores_per_worker": -1},
)
"""Settings that scale together: seats and what is in them, rows in flight, streams and what a lone one lacks.
"""


class PatternSearch:
    """The pattern search; call it with a `Search`.

    Args:
        space: the points to choose from.
    """

    def __init__(self, space: Space) -> None:
        self._grid = PointGrid(space)
        axes = [*_TOGETHER, *({knob: 1.0} for knob in self._grid.knobs)]
        self._axes = [self._grid.direction(axis) for axis in axes]

    def __call__(self, search: Search) -> None:
        """Climb until no start is left or the limits are reached."""
        grid, expected = self._grid, search.expected_trials
        known = [grid.number(one.point) for one in search.objective.standings(search.journal.trials)]
        count = _STARTS if expected is None else min(_STARTS, expected // _TRIALS_A_START)
        starts = [*known, *grid.sample(count, _DRAW)]
        tops: list[int] = []
        for _ in range(_CLIMBS):
            ranked = self._ranked(search, starts)
            if tops:
                apart = grid.distances(tops)
                ranked = [number for number in ranked if apart[number] >= np.median(apart) / 2]
            if not ranked:
                return
            tops.append(self._climb(search, ranked[0]))
            starts.remove(ranked[0])

    def _climb(self, search: Search, start: int) -> int:
        here, times = start, 1
        while True:
            now = search.measure(self._grid.points[here], times=times)
            better = self._step(search, here, now, times)
            if better is not None:
                here, times = better, 1
            elif times == 2 or now is None:
                return here
            else:
                times = 2  # once more around, with second measurements

    def _step(self, search: Search, here: int, now: Standing | None, times: int) -> int | None:
        """The point that the first axis that pays leads to, as far as it pays.

        With ``times`` 2 neighbours that may be as good are measured again too: bad luck does not repeat
        either.
        """
        for axis in self._axes:
            for direction in (axis, -axis):
                at, best = here, now
                while (ahead := self._grid.ahead(at, direction)) is not None:
                    point = self._grid.points[ahead]
                    found = search.measure(point)
                    if times == 2 and found and best and search.objective.tie(found, best):
                        found = search.measure(point, times=2)
                    if not _better(found, best):
                        break
                    at, best = ahead, found
                if at != here:
                    return at
        return None

    def _ranked(self, search: Search, numbers: list[int]) -> list[int]:
        seen = {number: search.measure(self._grid.points[number]) for number in dict.fromkeys(numbers)}
        worked = [(one.excess, -one.score, number) for number, one in seen.items() if one is not None]
        return [number for _, _, number in sorted(worked)]


def _better(one: Standing | None, other: Standing | None) -> bool:
    if one is None or other is None:
        return one is not None
    return (one.excess, -one.score) < (other.excess, -other.score)
