"""Reads boxes that each have a score for every class: DETR and its family, UltraFace, YOLO in two outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from cpuserve.serving.engine import Array, Port
from cpuserve.serving.postprocess.classification import sigmoid
from cpuserve.serving.postprocess.detection import Boxes, best_of_each
from cpuserve.serving.postprocess.found_boxes import corners_of

__all__ = ["Activation", "ScoredBoxes", "box_and_score_places"]

Activation = Literal["", "softmax", "sigmoid"]


def box_and_score_places(outputs: Sequence[Port]) -> tuple[int, int] | None:
    """Which of two outputs holds boxes [k, 4], which scores [k, C]; None where it is neither."""
    shapes = [port.row_shape for port in outputs]
    if len(shapes) != 2 or any(len(shape) != 2 for shape in shapes) or shapes[0][0] != shapes[1][0]:
        return None
    wide = [place for place, shape in enumerate(shapes) if shape[1] == 4]
    if len(wide) == 2:
        wide = [place for place in wide if "box" in outputs[place].names[0].lower()]
    return (wide[0], 1 - wide[0]) if len(wide) == 1 else None


class ScoredBoxes:
    """Boxes [k, 4] and scores [k, C], in two outputs or in one [k, 4 + C].

    Args:
        places: of the boxes and of the scores; the same for one output.
        width: of the input, pixels.
        height: of the input, pixels.
        confidence: boxes must score more.
        activation: what the scores still need.
        background: the class that means "nothing": 0, -1, or None.
        iou: of two boxes of a class that overlap by more, the better stays; None: all stay.
        order: of the numbers of a box.
        unit: "pixels", "share", or empty.
    """

    def __init__(
        self,
        places: tuple[int, int],
        width: int,
        height: int,
        *,
        confidence: float,
        activation: Activation = "",
        background: int | None = None,
        iou: float | None = None,
        order: str = "cxcywh",
        unit: str = "",
    ) -> None:
        self._places, self._size = places, (width, height)
        self._confidence, self._iou = confidence, iou
        self._activation, self._background = activation, background
        self._order, self._unit = order, unit

    def __call__(self, outputs: Sequence[Array]) -> Boxes:
        """The boxes of one row."""
        boxes, scores = outputs[self._places[0]], outputs[self._places[1]]
        if self._places[0] == self._places[1]:
            boxes, scores = boxes[:, :4], scores[:, 4:]
        if self._activation == "softmax":
            scores = np.exp(scores - scores.max(axis=1, keepdims=True), dtype=np.float32)
            scores /= scores.sum(axis=1, keepdims=True)
        elif self._activation == "sigmoid":
            scores = sigmoid(scores)
        first = 0
        if self._background == 0:
            scores, first = scores[:, 1:], 1
        elif self._background == -1:
            scores = scores[:, :-1]
        best = scores.max(axis=1)
        kept = np.flatnonzero(best > self._confidence)
        corners = corners_of(boxes[kept], self._order, self._unit, *self._size)
        classes = scores[kept].argmax(axis=1) + first
        found = Boxes(corners, best[kept].astype(np.float32), classes)
        return found if self._iou is None else best_of_each(found, self._iou)
