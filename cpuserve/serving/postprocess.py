"""Rows of output to answers people read: best classes, class areas; it knows no transport."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from cpuserve.errors import RequestError
from cpuserve.serving.engine import Array, Port
from cpuserve.serving.feed import Frame

__all__ = ["Classifier", "Postprocessor", "Segmenter", "postprocessor"]

Answer = dict[str, list[dict[str, Any]]]


class Postprocessor(Protocol):
    """Turns the outputs of one row into an answer."""

    def answer(self, outputs: Sequence[Array], topk: int | None, frame: Frame) -> Answer:
        """The answer for one picture, ``frame``; ``outputs`` are without the batch dimension."""


class Classifier:
    """Best classes first.

    Args:
        labels: name by class; a class without one is named by its number.
        topk: how many classes an answer has unless the request says otherwise.
        softmax: the output holds logits, not probabilities.
    """

    def __init__(self, labels: Sequence[str], *, topk: int = 5, softmax: bool = False) -> None:
        self._labels = labels
        self._topk = topk
        self._softmax = softmax

    def answer(self, outputs: Sequence[Array], topk: int | None, _frame: Frame) -> Answer:
        """``{"predictions": [{"class_id", "label", "probability"}]}``, best first.

        Raises:
            RequestError: ``topk`` is no number from 1 to the number of classes.
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
        best = np.argpartition(scores, -count)[-count:]
        best = best[np.argsort(-scores[best], kind="stable")]
        return {
            "predictions": [
                {
                    "class_id": index,
                    "label": label_of(self._labels, index),
                    "probability": round(value, 6),
                }
                for index, value in zip(best.tolist(), scores[best].tolist(), strict=True)
            ]
        }


class Segmenter:
    """Share of the picture by class, largest first.

    Args:
        labels: name by class.
        axis: of the class scores in a row: 0 for [C, H, W], -1 for [H, W, C]; None: class ids [H, W].
    """

    def __init__(self, labels: Sequence[str], axis: int | None) -> None:
        self._labels = labels
        self._axis = axis

    def answer(self, outputs: Sequence[Array], topk: int | None, _frame: Frame) -> Answer:
        """``{"classes": [{"class_id", "label", "area"}]}``, areas as shares of the picture, largest first."""
        ids = outputs[0] if self._axis is None else outputs[0].argmax(axis=self._axis)
        counts = np.bincount(ids.reshape(-1).astype(np.intp, copy=False))
        order = np.argsort(-counts, kind="stable")[:topk]
        return {
            "classes": [
                {
                    "class_id": index,
                    "label": label_of(self._labels, index),
                    "area": round(int(counts[index]) / ids.size, 6),
                }
                for index in order.tolist()
                if counts[index]
            ]
        }


def label_of(labels: Sequence[str], index: int) -> str:
    """Name of a class, its number where the model has no name for it."""
    return labels[index] if index < len(labels) else str(index)


def postprocessor(
    model_type: str, labels: Sequence[str], outputs: Sequence[Port], *, topk: int | None, probabilities: bool
) -> Postprocessor | None:
    """The post-processing for a model, or None for one whose answer has no words yet.

    Args:
        model_type: from the metadata ("Classification", "Segmentation"); empty means: judge by the output.
        labels: from the metadata.
        outputs: of the model.
        topk: from the metadata.
        probabilities: whether the first output already holds probabilities.
    """
    shape, kind = outputs[0].row_shape, model_type.lower()
    sides = [size for size in shape if size != 1]
    if kind == "classification" or (not kind and len(outputs) == 1 and len(sides) == 1 and -1 not in shape):
        return Classifier(labels, topk=topk or 5, softmax=not probabilities)
    if kind == "segmentation" or (not kind and len(outputs) == 1 and len(sides) >= 2 and len(shape) >= 2):
        if len(sides) <= 2:
            return Segmenter(labels, None)
        last_is_classes = shape[-1] == len(labels) or (shape[0] != len(labels) and shape[-1] < shape[0])
        return Segmenter(labels, -1 if last_is_classes else 0)
    return None
