"""Finds the best classes by their scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cpuserve.errors import RequestError
from cpuserve.serving.engine import Array
from cpuserve.serving.picture_input import Frame
from cpuserve.serving.postprocess.answers import Answer

__all__ = ["Classifier"]


class Classifier:
    """Answers the best classes.

    Args:
        labels: name by class; a class without one is named by its number.
        topk: how many classes an answer has unless the request says otherwise.
        softmax: the output holds logits, not probabilities.
    """

    def __init__(self, labels: Sequence[str], *, topk: int = 5, softmax: bool = False) -> None:
        self._labels = labels
        self._topk = topk
        self._softmax = softmax

    def answer(self, outputs: Sequence[Array], topk: int | None, _frame: Frame, /) -> Answer:
        """``{"predictions": [{"class_id", "label", "probability"}]}``, best first.

        Raises:
            RequestError: ``topk`` is not a number from 1 to the number of classes.
        """
        scores = outputs[0].reshape(-1)
        count = min(self._topk, scores.size) if topk is None else topk
        if not 1 <= count <= scores.size:
            raise RequestError(f"topk is {count}; this model takes 1 to {scores.size}")
        if scores.dtype.kind != "f":
            scores = scores.astype(np.float32)  # small integers would wrap when they are negated
        if self._softmax:
            scores = np.exp(scores - scores.max(), dtype=np.float32)
            scores /= scores.sum()
        best = scores.argpartition(-count)[-count:]
        ranked = sorted(zip((-scores[best]).tolist(), best.tolist(), strict=True))
        labels, named = self._labels, len(self._labels)
        return {
            "predictions": [
                {
                    "class_id": index,
                    "label": labels[index] if index < named else str(index),
                    # round(value, 6) goes by way of text, which takes ten times as long
                    "probability": (0.5 - negative * 1e6) // 1 / 1e6,
                }
                for negative, index in ranked
            ]
        }
