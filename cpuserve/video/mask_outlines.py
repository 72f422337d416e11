"""Turns masks into outlines of few points, written as SVG paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["outline_path"]

_LEAST_AREA = 1 / 2000  # of the mask: smaller islands and holes are noise of the model
_LEAST_OFF, _GROWTH = (
    0.7,
    1.5,
)  # pixels that a line may be off at first, and how much more when that is too little
_MOST_OFF = 1 / 8  # of the longer side; then outlines are left out, the smallest first

_Outline = npt.NDArray[np.int32]


def outline_path(mask: npt.NDArray[np.bool_], most_points: int) -> str:
    """The outlines of a mask as the ``d`` of an SVG path, in pixels of the mask.

    Holes are outlines inside others: the path is filled by the rule ``evenodd``. All points are relative, so
    that most numbers are short.

    Args:
        mask: [height, width]; true where something is.
        most_points: of all outlines together, at least 4.

    Returns:
        The path; empty where nothing is.
    """
    bordered = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    # every pixel is two wide, so that outlines run along pixels' edges and not through their middles
    doubled = np.repeat(np.repeat(bordered, 2, 0), 2, 1)
    found, _ = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    least = mask.size * _LEAST_AREA * 4
    large: list[Any] = [outline for outline in found if cv2.contourArea(outline) >= least]
    if not large:
        return ""
    large.sort(key=cv2.contourArea, reverse=True)
    return _path([_in_pixels(one, mask) for one in _simplified(large, most_points, max(mask.shape))])


def _simplified(outlines: Sequence[Any], most_points: int, side: int) -> list[Any]:
    """The outlines with fewer points, together at most so many; largest first."""
    kept, off = list(outlines), _LEAST_OFF * 2
    while True:
        simple = [cv2.approxPolyDP(outline, off, closed=True) for outline in kept]
        # one that is a line by now is the frame around it
        simple = [one if len(one) >= 3 else _frame_of(whole) for one, whole in zip(simple, kept, strict=True)]
        if sum(len(outline) for outline in simple) <= most_points:
            return simple
        if off <= side * 2 * _MOST_OFF:
            off *= _GROWTH
        elif len(kept) > 1:
            kept.pop()  # the smallest
        else:
            return [_frame_of(kept[0])]


def _frame_of(outline: Any) -> Any:
    """The rectangle around an outline, [4, 1, 2]."""
    left, top, width, height = cv2.boundingRect(outline)
    right, bottom = left + width - 1, top + height - 1
    return np.array([[left, top], [left, bottom], [right, bottom], [right, top]], np.int32)[:, np.newaxis]


def _in_pixels(outline: Any, mask: npt.NDArray[np.bool_]) -> _Outline:
    """Points [N, 2] of the doubled mask with a border in pixels of the mask, from its upper left corner."""
    height, width = mask.shape
    points: _Outline = (outline[:, 0, :] - 1) // 2
    return np.clip(points, 0, [width, height])


def _path(outlines: Sequence[_Outline]) -> str:
    """SVG: a path of closed polygons. After ``z`` the next one begins where the last one began."""
    parts, at = [], np.zeros(2, np.int32)
    for outline in outlines:
        steps = np.diff(outline, axis=0, prepend=at[np.newaxis])
        x, y = steps[0].tolist()
        lines = "".join(f"{_next(dx)}{_next(dy)}" for dx, dy in steps[1:].tolist() if dx or dy)
        parts.append(f"m{x}{_next(y)}l{lines.lstrip()}z")
        at = outline[0]
    return "".join(parts)


def _next(number: int) -> str:
    """A number behind another one: a minus parts them as well as a space."""
    return str(number) if number < 0 else f" {number}"
