"""Finds lines of text in the probability map of a detector such as PaddleOCR's (DB, arXiv:1911.08947)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from cpuserve.serving.engine import Array
from cpuserve.serving.postprocess.detection import Boxes

__all__ = ["TextRegions"]

_TEXT = 0.3  # probability of a pixel of text
_SHRUNK = 1.5  # the map shows lines shrunk by area times this over their perimeter
_LEAST_SIDE = 3  # pixels of the map
_MOST = 1000


class TextRegions:
    """Turned boxes around lines of text.

    Args:
        width: of the input, pixels.
        height: of the input, pixels.
        confidence: the mean probability in a box must be more.
    """

    def __init__(self, width: int, height: int, *, confidence: float) -> None:
        self._size = width, height
        self._confidence = confidence

    def __call__(self, outputs: Sequence[Array]) -> Boxes:
        """The boxes of one row."""
        rows, columns = (side for side in outputs[0].shape if side != 1)
        chances: Array = outputs[0].reshape(rows, columns).astype(np.float32)
        outlines, _ = cv2.findContours(
            (chances > _TEXT).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE
        )
        polygons, scores = [], []
        for outline in outlines[:_MOST]:
            middle, sides, angle = cv2.minAreaRect(outline)
            if min(sides) < _LEAST_SIDE:
                continue
            score = _mean(chances, cv2.boxPoints((middle, sides, angle)))
            if score <= self._confidence:
                continue
            away = 2 * sides[0] * sides[1] * _SHRUNK / (2 * (sides[0] + sides[1]))
            polygons.append(cv2.boxPoints((middle, (sides[0] + away, sides[1] + away), angle)))
            scores.append(score)
        found = np.array(polygons, np.float32).reshape(-1, 4, 2)
        found *= np.array([self._size[0] / columns, self._size[1] / rows], np.float32)
        corners = np.concatenate([found.min(axis=1), found.max(axis=1)], axis=1)
        return Boxes(corners, np.array(scores, np.float32), np.zeros(len(scores), np.intp), None, found)


def _mean(chances: Array, polygon: Array) -> float:
    """The mean probability inside a polygon."""
    low, high = np.floor(polygon.min(axis=0)), np.ceil(polygon.max(axis=0))
    left, top = max(0, int(low[0])), max(0, int(low[1]))
    right, bottom = int(high[0]) + 1, int(high[1]) + 1
    part = chances[top:bottom, left:right]
    inside = np.zeros(part.shape, np.uint8)
    cv2.fillPoly(inside, [np.round(polygon - [left, top]).astype(np.int32)], (1,))
    return float(cv2.mean(part, inside)[0])
