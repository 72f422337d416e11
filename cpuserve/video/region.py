"""A region of the picture, in shares of its width and height, and the file that names such regions."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cpuserve.errors import UsageError
from cpuserve.serving.decode import Pixels

__all__ = ["Region", "load_regions"]


@dataclass(frozen=True)
class Region:
    """A polygon in the picture.

    Attributes:
        name: what the user calls it; the four numbers of a rectangle without a name.
        corners: at least three points x, y; 0, 0 is the top left of the picture and 1, 1 the bottom right.
    """

    name: str
    corners: tuple[tuple[float, float], ...]

    @classmethod
    def rectangle(cls, name: str, values: Sequence[float]) -> Region:
        """The rectangle from left, top to right, bottom.

        Raises:
            UsageError: the four numbers are no rectangle inside the picture.
        """
        left, top, right, bottom = values
        if not (left < right and top < bottom):
            raise UsageError(
                f"region {name} has no area: it goes from left, top to right, bottom, as in 0,0.5,1,1"
            )
        return cls.polygon(name, [(left, top), (right, top), (right, bottom), (left, bottom)])

    @classmethod
    def polygon(cls, name: str, corners: Sequence[Sequence[float]]) -> Region:
        """The polygon through these corners, in either direction.

        Raises:
            UsageError: there are fewer than three corners, or one is outside of the picture.
        """
        if len(corners) < 3 or any(len(corner) != 2 for corner in corners):
            raise UsageError(
                f"region {name} has to be three or more corners x, y, or left, top, right, bottom"
            )
        for corner in corners:
            if not all(0 <= value <= 1 for value in corner):
                raise UsageError(
                    f"region {name} has the corner {corner[0]:g}, {corner[1]:g}: corners are shares of the "
                    "picture's width and height, from 0 to 1, not pixels"
                )
        return cls(name, tuple((float(x), float(y)) for x, y in corners))

    def contains(self, x: float, y: float) -> bool:
        """Whether a point, in shares of width and height, lies in the region or on its edge."""
        contour = np.array(self.corners, np.float32).reshape(-1, 1, 2)
        return cv2.pointPolygonTest(contour, (x, y), measureDist=False) >= 0

    def mask(self, height: int, width: int) -> Pixels:
        """Which pixels of a picture of that size lie in the region: u8 [height, width], 0 or 1."""
        fine = 64  # fractions of a pixel that corners are rounded to
        points = np.array(self.corners) * [width, height] - 0.5
        drawn = np.zeros((height, width), np.uint8)
        cv2.fillPoly(drawn, [np.rint(points * fine).astype(np.int32)], (1,), shift=6)
        return drawn


def load_regions(path: Path) -> dict[str, Region]:
    """The regions of a TOML file.

    A line is ``door = [[0.1, 0.2], [0.4, 0.2], [0.4, 0.9]]`` or, for a rectangle, ``road = [0, 0.5, 1, 1]``.

    Raises:
        UsageError: the file cannot be read, or a region in it is none.
    """
    try:
        content: Mapping[str, Any] = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"the file of regions {path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # no UTF-8, or no TOML
        raise UsageError(f"the file of regions {path} is not TOML: {error}") from error
    for name in content:
        if not name.strip() or ";" in name:  # which stands between the names of zones in a table
            raise UsageError(f"{path} has a region named {name!r}: a name is not empty and has no ;")
    return {name: _region(path, name, value) for name, value in content.items()}


def _region(path: Path, name: str, value: Any) -> Region:
    numbers = isinstance(value, list) and all(
        isinstance(entry, int | float) and not isinstance(entry, bool) for entry in value
    )
    corners = isinstance(value, list) and all(
        isinstance(entry, list)
        and all(isinstance(part, int | float) and not isinstance(part, bool) for part in entry)
        for entry in value
    )
    if numbers and len(value) == 4:
        return Region.rectangle(name, value)
    if not corners or numbers:
        raise UsageError(
            f"region {name} of {path} is {value!r:.60}: it has to be a list of corners [x, y], or the four "
            "numbers left, top, right, bottom"
        )
    return Region.polygon(name, value)
