"""Computes how far the answers of two forms of one model differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cpuserve.errors import UsageError

__all__ = ["Array", "Ids", "Parity", "class_map", "compare"]

Array = npt.NDArray[Any]
Ids = npt.NDArray[np.intp]

_SEGMENTATION, _CLASSIFICATION = "segmentation", "classification"


@dataclass(frozen=True)
class Parity:
    """How far two sets of answers to the same pictures differ.

    Attributes:
        pictures: number of pictures.
        max_abs_diff: largest difference of two numbers; None where the numbers are class ids.
        mean_abs_diff: mean difference of two numbers; None where the numbers are class ids.
        top1_agreement: share of the pictures with the same best class, 0 to 1; None unless it classifies.
        pixel_agreement: share of the pixels with the same class, 0 to 1; None unless it segments.
        mean_iou: intersection over union of the pixels of a class, mean over the classes of either
            side, counted over all pictures together as in PASCAL VOC; None unless it segments.
    """

    pictures: int
    max_abs_diff: float | None
    mean_abs_diff: float | None
    top1_agreement: float | None = None
    pixel_agreement: float | None = None
    mean_iou: float | None = None


def compare(reference: Sequence[Array], candidate: Sequence[Array], model_type: str = "") -> Parity:
    """Compares one output over several pictures.

    Args:
        reference: the output for each picture, of any shape; a batch dimension of 1 may be there.
        candidate: the same from the other form of the model, in the same order; sides of 1 may differ.
        model_type: "Classification" or "Segmentation" as in the card; any other word compares the numbers
            only. Empty: class ids with two sides are a segmentation, one vector of numbers a classification.

    Raises:
        UsageError: there is nothing to compare, as where every answer is empty, or the shapes differ.
    """
    if not reference or len(reference) != len(candidate):
        raise UsageError(f"cannot compare the answers to {len(reference)} and to {len(candidate)} pictures")
    ours, theirs = [_squeezed(array) for array in candidate], [_squeezed(array) for array in reference]
    for before, after in zip(theirs, ours, strict=True):
        if before.shape != after.shape:
            raise UsageError(f"cannot compare outputs of shapes {list(before.shape)} and {list(after.shape)}")
    theirs, ours = [[array for array in arrays if array.size] for arrays in (theirs, ours)]
    if not theirs:
        raise UsageError(f"cannot compare {len(reference)} answers without a number in them")
    kind = model_type.lower() or _kind(theirs[0])
    largest, mean = _differences(theirs, ours)
    if kind == _SEGMENTATION:
        return Parity(len(ours), largest, mean, None, *_pixels(theirs, ours))
    top1 = None
    if kind == _CLASSIFICATION:
        same = [int(before.argmax() == after.argmax()) for before, after in zip(theirs, ours, strict=True)]
        top1 = sum(same) / len(same)
    return Parity(len(ours), largest, mean, top1)


def class_map(output: Array) -> Ids:
    """The class of each pixel, [H, W], of a segmentation's output for one picture.

    Args:
        output: class ids [H, W] as integers, or scores [C, H, W] or [H, W, C]; of the first and the last
            side of scores the smaller one holds the classes.

    Raises:
        UsageError: the output has neither shape.
    """
    found = _squeezed(output)
    if found.ndim == 2:
        return found.astype(np.intp)
    if found.ndim != 3:
        raise UsageError(f"shape {list(output.shape)} holds neither the classes nor the scores of pixels")
    return np.asarray(found.argmax(axis=-1 if found.shape[-1] < found.shape[0] else 0), np.intp)


def _squeezed(array: Array) -> Array:
    return np.asarray(array).squeeze()


def _kind(array: Array) -> str:
    if array.ndim == 1:
        return _CLASSIFICATION
    return _SEGMENTATION if _ids(array) else ""


def _ids(array: Array) -> bool:
    return array.ndim == 2 and array.dtype.kind in "iu"


def _differences(theirs: Sequence[Array], ours: Sequence[Array]) -> tuple[float | None, float | None]:
    if _ids(theirs[0]) or _ids(ours[0]):
        return None, None
    apart = [np.abs(before.astype(np.float64) - after) for before, after in zip(theirs, ours, strict=True)]
    # NaN on one side must not look like agreement: max and mean keep it
    return float(np.max([part.max() for part in apart])), float(np.mean([part.mean() for part in apart]))


def _pixels(theirs: Sequence[Array], ours: Sequence[Array]) -> tuple[float, float]:
    before = np.concatenate([class_map(array).ravel() for array in theirs])
    after = np.concatenate([class_map(array).ravel() for array in ours])
    ratios = []
    for found in np.union1d(before, after):
        both = np.count_nonzero((before == found) & (after == found))
        ratios.append(both / np.count_nonzero((before == found) | (after == found)))
    return float(np.mean(before == after)), float(np.mean(ratios))
