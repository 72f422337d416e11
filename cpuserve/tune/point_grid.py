"""Places the points of a space in a grid and finds neighbours and distances in it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cpuserve.tune.space import Space
from cpuserve.tune.trial import Point

__all__ = ["PointGrid", "Vector"]

Vector = npt.NDArray[np.float32]
"""One number a knob that varies."""


class PointGrid:
    """Numbers the points and gives each coordinates; distances are L1.

    Attributes:
        points: by number.
        knobs: the knobs that vary, one coordinate each.

    Args:
        space: the points to choose from.
    """

    def __init__(self, space: Space) -> None:
        self.points: Sequence[Point] = list(space.points)
        self._number = {point: number for number, point in enumerate(self.points)}
        steps = np.array(list(space.points.values()))
        vary = [column for column in range(steps.shape[1]) if len(np.unique(steps[:, column])) > 1]
        names = list(space.values)
        self.knobs = [names[column] for column in vary]
        self._scales = [_scale(space.values[knob]) for knob in self.knobs]
        self._places = np.zeros((len(steps), len(vary)), np.float32)
        for place, column in enumerate(vary):
            self._places[:, place] = self._scales[place][steps[:, column]]
        self._at = {place.tobytes(): number for number, place in enumerate(self._places)}
        self._ahead: dict[tuple[int, bytes], int | None] = {}

    def number(self, point: Point) -> int:
        """A point's number; that of the defaults for a point outside the space."""
        return self._number.get(point, self._number[Point()])

    def direction(self, axis: Mapping[str, float]) -> Vector:
        """A step along an axis as a vector: how much each knob changes, in doublings if it is a number."""
        return np.array([axis.get(knob, 0.0) for knob in self.knobs], np.float32)

    def nearest(self, steps: Mapping[str, int]) -> Point:
        """The point nearest to a combination of values, each given by its index."""
        place = [scale[steps[knob]] for knob, scale in zip(self.knobs, self._scales, strict=True)]
        return self.points[int(np.abs(self._places - np.array(place, np.float32)).sum(axis=1).argmin())]

    def ahead(self, here: int, direction: Vector) -> int | None:
        """The point nearest to where a step leads; None if there is none in that direction."""
        key = (here, direction.tobytes())
        if key not in self._ahead:
            exact = self._at.get((self._places[here] + direction).tobytes())
            self._ahead[key] = exact if exact is not None else self._nearest_ahead(here, direction)
        return self._ahead[key]

    def _nearest_ahead(self, here: int, direction: Vector) -> int | None:
        moved = self._places - self._places[here]
        distance = np.abs(moved - direction).sum(axis=1)
        distance[moved @ direction <= 0] = np.inf
        best = int(distance.argmin())
        return best if np.isfinite(distance[best]) else None

    def distances(self, numbers: Iterable[int]) -> Vector:
        """The distance of each point to the nearest of some points."""
        apart = [np.abs(self._places - self._places[number]).sum(axis=1) for number in numbers]
        return np.asarray(np.min(apart, axis=0))

    def sample(self, count: int, seed: int) -> list[int]:
        """Draw up to ``count`` points at random."""
        dice = random.Random(seed)  # noqa: S311  # a repeatable draw, no secret
        return dice.sample(range(len(self.points)), min(count, len(self.points)))


def _scale(choices: tuple[Any, ...]) -> Vector:
    """Where each value lies: numbers of which doublings matter by their logarithm, others by their order."""
    if all(isinstance(value, int) and not isinstance(value, bool) and value > 0 for value in choices):
        return np.log2(np.array(choices, np.float32))
    return np.arange(len(choices), dtype=np.float32)
