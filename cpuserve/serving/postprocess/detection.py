"""Turns boxes in the model's input into boxes in the picture, best first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from cpuserve.errors import RequestError
from cpuserve.serving.engine import Array
from cpuserve.serving.picture_input import PictureSize
from cpuserve.serving.postprocess.answers import Answer, check_topk, label_of
from cpuserve.serving.preprocess import Resizer

__all__ = ["Boxes", "Detector", "Head", "best_of_each"]


class Boxes(NamedTuple):
    """What a head found in one row.

    Attributes:
        corners: f32 [N, 4], x1 y1 x2 y2 in pixels of the model's input.
        scores: f32 [N], 0 to 1.
        classes: integer [N].
        points: f32 [N, K, 3], x, y and score of the keypoints of each; None where the model has none.
        polygons: f32 [N, 4, 2], the corners of turned boxes; None where boxes are upright.
    """

    corners: Array
    scores: Array
    classes: Array
    points: Array | None = None
    polygons: Array | None = None

    def only(self, kept: Any) -> Boxes:
        """Some of them, by index or mask."""
        return Boxes(
            self.corners[kept],
            self.scores[kept],
            self.classes[kept],
            None if self.points is None else self.points[kept],
            None if self.polygons is None else self.polygons[kept],
        )


_HIGHEST = 1.01

Head = Callable[[Sequence[Array]], Boxes]


class Detector:
    """Boxes of the picture, best first.

    Args:
        head: reads the boxes out of the outputs of one row; it has left out the weak and the double ones.
        labels: name by class.
        resizer: how pictures were brought to the input.
    """

    def __init__(self, head: Head, labels: Sequence[str], resizer: Resizer) -> None:
        self._head = head
        self._labels = labels
        self._resizer = resizer

    def answer(self, outputs: Sequence[Array], topk: int | None, frame: PictureSize, /) -> Answer:
        """``{"detections": [{"class_id", "label", "probability", "box"}]}``, best first.

        ``box`` is x1, y1, x2, y2 in pixels of the upright picture, cut off at its edges. Where the head finds
        them there are also ``polygon``, its corners x, y, and ``keypoints``, ``[{"point", "probability"}]``.

        Raises:
            RequestError: ``topk`` is below 1, or a score is above 1.
        """
        check_topk(topk)
        found = self._head(outputs)
        _check_scores(found.scores)
        place = self._resizer.placement(frame.width, frame.height)
        corners = place.to_picture(found.corners)
        corners = np.clip(corners, 0, [frame.width, frame.height, frame.width, frame.height])
        inside = np.flatnonzero((corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1]))
        order = inside[np.argsort(-found.scores[inside], kind="stable")][:topk]
        detections: list[dict[str, Any]] = [
            {
                "class_id": index,
                "label": label_of(self._labels, index),
                "probability": round(min(score, 1.0), 6),
                "box": box,
            }
            for index, score, box in zip(
                found.classes[order].tolist(),
                found.scores[order].tolist(),
                corners[order].round(1).tolist(),
                strict=True,
            )
        ]
        if found.polygons is not None:
            polygons = place.to_picture(found.polygons[order]).round(1).tolist()
            for row, polygon in zip(detections, polygons, strict=True):
                row["polygon"] = polygon
        if found.points is not None:
            points = place.to_picture(found.points[order][..., :2]).round(1).tolist()
            shares = found.points[order][..., 2].tolist()
            for row, spots, scores in zip(detections, points, shares, strict=True):
                row["keypoints"] = [
                    {"point": spot, "probability": round(score, 6)}
                    for spot, score in zip(spots, scores, strict=True)
                ]
        return {"detections": detections}


def _check_scores(scores: Array) -> None:
    """Refuses scores that are no probabilities; 1.01 lets the steps of quantised ones pass.

    Raises:
        RequestError: one is above 1.
    """
    highest = float(scores.max(initial=0))
    if highest > _HIGHEST:
        raise RequestError(
            f"a score of this model is {highest:.6g} for this picture; a probability is at most 1: convert "
            "it again with the pixels that it was trained on (--scale_values 255, --mean_values), or ask for "
            "its tensors"
        )


def best_of_each(boxes: Boxes, iou: float) -> Boxes:
    """Non-maximum suppression, class by class: of boxes that overlap by more than ``iou`` the best stays.

    Args:
        boxes: above the threshold already.
        iou: intersection over union, 0 to 1.
    """
    if not len(boxes.scores):
        return boxes
    sized = np.concatenate([boxes.corners[:, :2], boxes.corners[:, 2:] - boxes.corners[:, :2]], axis=1)
    kept = cv2.dnn.NMSBoxesBatched(sized, boxes.scores, boxes.classes, 0.0, iou)  # type: ignore[arg-type]
    return boxes.only(np.asarray(kept, np.intp))
