"""Reads the text of a line out of the scores of a recogniser trained by CTC, as PaddleOCR's are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cpuserve.serving.engine import Array
from cpuserve.serving.picture_input import PictureSize
from cpuserve.serving.postprocess.answers import Answer

__all__ = ["CtcText", "ctc_alphabet"]

_BLANK = 0


def ctc_alphabet(labels: Sequence[str], classes: int) -> tuple[str, ...] | None:
    """The character of each class, the blank first; None where the labels do not fit.

    Args:
        labels: the characters, with or without the blank in front and the space at the end.
        classes: how many there are.
    """
    whole = ("", *labels)
    if classes == len(labels) + 2:
        return (*whole, " ")
    if classes == len(labels) + 1:
        return whole
    return ("", *labels[1:]) if classes == len(labels) and labels else None


class CtcText:
    """Answers the text of a line.

    Args:
        alphabet: the character of each class; the first is the blank between two characters.
        softmax: the output holds logits, not probabilities.
    """

    def __init__(self, alphabet: Sequence[str], *, softmax: bool) -> None:
        self._alphabet = alphabet
        self._softmax = softmax

    def answer(self, outputs: Sequence[Array], _topk: int | None, _frame: PictureSize, /) -> Answer:
        """``{"text", "probability"}``: the mean probability of the characters, 0 where there are none."""
        scores = outputs[0].reshape(-1, len(self._alphabet)).astype(np.float32)
        if self._softmax:
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores /= scores.sum(axis=1, keepdims=True)
        best = scores.argmax(axis=1)
        kept = best != _BLANK
        kept[1:] &= best[1:] != best[:-1]  # a character that is seen twice in a row is one
        sure = scores[np.flatnonzero(kept), best[kept]]
        text = "".join(self._alphabet[index] for index in best[kept].tolist())
        return {"text": text, "probability": round(float(sure.mean()), 6) if len(sure) else 0.0}
