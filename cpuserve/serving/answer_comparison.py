"""Says how far two answers to one request agree, 0 to 1, by the measure of the accuracy guard."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cpuserve.serving.answer_agreement import ServedAnswers, comparable_answer
from cpuserve.serving.answer_tally import Tally
from cpuserve.serving.comparable_answers import ComparableAnswer, MaskAnswer
from cpuserve.serving.engine import Array
from cpuserve.serving.picture_input import PictureSize
from cpuserve.serving.postprocess import Answer, Postprocessor

__all__ = ["agreement_of_answers", "agreement_of_outputs", "likeness", "share_that_agrees"]


def share_that_agrees(kind: ComparableAnswer, tally: Tally) -> float:
    """The share that agrees: of masks the mean over the classes, of all else the whole."""
    return tally.by_class if isinstance(kind, MaskAnswer) else tally.pooled


def agreement_of_answers(expected: Answer, given: Answer) -> float:
    """How far an answer as JSON agrees with another.

    Raises:
        ValueError: the first is no answer that can be compared.
    """
    try:
        before = comparable_answer(expected)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"it is no answer of this server ({type(error).__name__}: {error})") from error
    if before is None:
        raise ValueError("it has no predictions, classes, detections, keypoints or text")
    after = comparable_answer(given)
    return before.against(after if type(after) is type(before) else None).pooled


def agreement_of_outputs(
    post: Postprocessor | None, frame: PictureSize, expected: Sequence[Array], given: Sequence[Array]
) -> float:
    """How far outputs agree: the answers made of them if there are any, else their numbers.

    Args:
        post: makes answers of the outputs of a row; None where they mean nothing that is known.
        frame: size of the pictures.
        expected: one array [N, ...] an output.
        given: as ``expected``.
    """
    if post is not None and all(
        one.ndim and one.shape == two.shape for one, two in zip(expected, given, strict=True)
    ):
        read, total = ServedAnswers(post, [frame]), []
        kind: ComparableAnswer | None = None
        for row in range(len(expected[0])):
            before = read([output[row] for output in expected], 0)
            if before is None:
                break
            kind = before
            total.append(before.against(read([output[row] for output in given], 0)))
        else:
            if kind is not None:
                return share_that_agrees(kind, Tally.total(total))
    return min(likeness(*pair) for pair in zip(expected, given, strict=True))


def likeness(expected: Array, given: Array) -> float:
    """1 less the distance of two arrays as a share of the length of the first, at least 0.

    Of texts, the share that is equal.
    """
    if expected.shape != given.shape:
        return 0.0
    if expected.dtype.kind not in "biuf" or given.dtype.kind not in "biuf":
        return float(np.mean(expected.astype(str) == given.astype(str))) if expected.size else 1.0
    before, after = expected.astype(np.float64).ravel(), given.astype(np.float64).ravel()
    if not np.array_equal(np.isnan(before), np.isnan(after)):
        return 0.0
    before, after = np.nan_to_num(before), np.nan_to_num(after)
    apart, length = float(np.linalg.norm(after - before)), float(np.linalg.norm(before))
    if not length:
        return 1.0 if not apart else 0.0
    return max(0.0, 1 - apart / length)
