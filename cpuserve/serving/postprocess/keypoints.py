"""Turns points in the model's input into points in the picture, best first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from cpuserve.serving.engine import Array
from cpuserve.serving.picture_input import PictureSize
from cpuserve.serving.postprocess.answers import Answer, check_topk, label_of
from cpuserve.serving.preprocess import Resizer

__all__ = ["Keypoints", "Points"]


class Points(NamedTuple):
    """What a head found in one row.

    Attributes:
        places: f32 [K, 2], x and y in pixels of the model's input, below 0 where there is none.
        scores: f32 [K], 0 to 1.
    """

    places: Array
    scores: Array


class Keypoints:
    """Keypoints of the picture, best first.

    Args:
        head: reads the points out of the outputs of one row.
        labels: name by keypoint.
        resizer: how pictures were brought to the input.
        confidence: points that score less are left out.
    """

    def __init__(
        self,
        head: Callable[[Sequence[Array]], Points],
        labels: Sequence[str],
        resizer: Resizer,
        *,
        confidence: float = 0.0,
    ) -> None:
        self._head = head
        self._labels = labels
        self._resizer = resizer
        self._confidence = confidence

    def answer(self, outputs: Sequence[Array], topk: int | None, frame: PictureSize, /) -> Answer:
        """``{"keypoints": [{"class_id", "label", "probability", "point"}]}``, best first.

        ``class_id`` says which keypoint it is; ``point`` is x, y in pixels of the upright picture.

        Raises:
            RequestError: ``topk`` is below 1.
        """
        check_topk(topk)
        places, scores = self._head(outputs)
        points = self._resizer.placement(frame.width, frame.height).to_picture(places)
        there = (places >= 0).all(axis=1) & (scores >= self._confidence)
        there &= (points >= 0).all(axis=1) & (points <= [frame.width, frame.height]).all(axis=1)
        found = np.flatnonzero(there)
        order = found[np.argsort(-scores[found], kind="stable")][:topk]
        return {
            "keypoints": [
                {
                    "class_id": index,
                    "label": label_of(self._labels, index),
                    "probability": round(score, 6),
                    "point": point,
                }
                for index, score, point in zip(
                    order.tolist(), scores[order].tolist(), points[order].round(1).tolist(), strict=True
                )
            ]
        }
