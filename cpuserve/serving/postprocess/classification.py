"""Finds the best classes by their scores, or all that apply."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cpuserve.errors import RequestError
from cpuserve.serving.engine import Array
from cpuserve.serving.picture_input import PictureSize
from cpuserve.serving.postprocess.answers import Answer, check_topk, label_of

__all__ = ["Classifier", "MultilabelClassifier", "sigmoid"]


class Classifier:
    """Answers the best classes of which one applies.

    One score is the probability of the second of two classes.

    Args:
        labels: name by class; a class without one is named by its number.
        topk: how many classes an answer has unless the request says otherwise.
        softmax: the output holds logits, not probabilities.
        scale: the output holds the scores times this, as quantised models do, ...
        offset: ... plus this.
    """

    def __init__(
        self,
        labels: Sequence[str],
        *,
        topk: int = 5,
        softmax: bool = False,
        scale: float = 1.0,
        offset: float = 0.0,
    ) -> None:
        self._labels = labels
        self._topk = topk
        self._softmax = softmax
        self._scale, self._offset = np.float32(scale), np.float32(offset)
        self._scaled = scale != 1 or offset != 0

    def answer(self, outputs: Sequence[Array], topk: int | None, _frame: PictureSize, /) -> Answer:
        """``{"predictions": [{"class_id", "label", "probability"}]}``, best first.

        Raises:
            RequestError: ``topk`` is not a number from 1 to the number of classes.
        """
        scores = outputs[0].reshape(-1)
        if scores.dtype.kind != "f":
            scores = scores.astype(np.float32)  # small integers would wrap when they are negated
        if self._scaled:
            scores = (scores - self._offset) / self._scale
        if scores.size == 1:
            scores = _of_two(scores, logit=self._softmax)
        elif self._softmax:
            scores = np.exp(scores - scores.max(), dtype=np.float32)
            scores /= scores.sum()
        count = min(self._topk, scores.size) if topk is None else topk
        if not 1 <= count <= scores.size:
            raise RequestError(f"topk is {count}; this model takes 1 to {scores.size}")
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


class MultilabelClassifier:
    """Answers every class whose own probability is high enough.

    Args:
        labels: name by class; a class without one is named by its number.
        confidence: classes with lower probabilities are left out.
        logits: the output holds logits: a sigmoid is added.
        scale: the output holds the scores times this, as quantised models do, ...
        offset: ... plus this.
    """

    def __init__(
        self,
        labels: Sequence[str],
        *,
        confidence: float = 0.5,
        logits: bool = False,
        scale: float = 1.0,
        offset: float = 0.0,
    ) -> None:
        self._labels = labels
        self._confidence = confidence
        self._logits = logits
        self._scale, self._offset = scale, offset

    def answer(self, outputs: Sequence[Array], topk: int | None, _frame: PictureSize, /) -> Answer:
        """``{"multilabel": true, "predictions": [{"class_id", "label", "probability"}]}``, best first.

        Raises:
            RequestError: ``topk`` is below 1.
        """
        check_topk(topk)
        scores = (outputs[0].reshape(-1).astype(np.float32) - self._offset) / self._scale
        if self._logits:
            scores = sigmoid(scores)
        found = np.flatnonzero(scores >= self._confidence)
        order = found[np.argsort(-scores[found], kind="stable")][:topk]
        return {
            "multilabel": True,
            "predictions": [
                {"class_id": index, "label": label_of(self._labels, index), "probability": round(score, 6)}
                for index, score in zip(order.tolist(), scores[order].tolist(), strict=True)
            ],
        }


def sigmoid(values: Array) -> Array:
    """``1 / (1 + exp(-values))`` in f32, without overflow."""
    found: Array = np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * values.astype(np.float32, copy=False)))
    return found


def _of_two(score: Array, *, logit: bool) -> Array:
    second = sigmoid(score) if logit else score
    return np.concatenate([1 - second, second])
