"""COCO's mean average precision of boxes, equal to what pycocotools computes.

After T.-Y. Lin et al., "Microsoft COCO: Common Objects in Context" (2014) and COCO's evaluation: IoU 0.50,
0.55, ... 0.95, precision at 101 recalls, at most 100 boxes of a class in a picture, mean over thresholds and
classes, objects of all areas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cpuserve.authoring.labelled_pictures import Box

__all__ = ["Detection", "mean_average_precision"]

_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)
_MOST = 100

Array = npt.NDArray[Any]


class Detection(NamedTuple):
    """One box that a detector found.

    Attributes:
        corners: x1, y1, x2, y2 in pixels of the upright picture.
        class_id: its class.
        score: how sure the detector is.
    """

    corners: tuple[float, float, float, float]
    class_id: int
    score: float


def mean_average_precision(pictures: Sequence[tuple[Sequence[Detection], Sequence[Box]]]) -> float:
    """The mAP over pictures, 0 to 1; 0 where no picture has an object.

    Args:
        pictures: detections and true boxes of each.
    """
    classes = sorted({box.class_id for _, truth in pictures for box in truth if not box.crowd})
    if not classes:
        return 0.0
    return float(np.mean([_of_class(pictures, class_id) for class_id in classes]))


def _of_class(pictures: Sequence[tuple[Sequence[Detection], Sequence[Box]]], class_id: int) -> float:
    scores: list[float] = []
    right, counted, there = [], [], 0
    for found, truth in pictures:
        ours = [one for one in found if one.class_id == class_id]
        ours = sorted(ours, key=lambda one: -one.score)[:_MOST]
        theirs = [box for box in truth if box.class_id == class_id]
        theirs.sort(key=lambda box: box.crowd)  # an object is matched before a crowd is
        there += sum(not box.crowd for box in theirs)
        hits, ignored = _matched(ours, theirs)
        scores.extend(one.score for one in ours)
        right.append(hits)
        counted.append(~ignored)
    order = np.argsort(-np.array(scores), kind="stable")
    hit = np.concatenate(right, axis=1)[:, order]
    counts = np.concatenate(counted, axis=1)[:, order]
    return float(np.mean([_precision(h[c], there) for h, c in zip(hit, counts, strict=True)]))


def _matched(ours: Sequence[Detection], theirs: Sequence[Box]) -> tuple[Array, Array]:
    """Which detections match an object, and which match a crowd: bool [thresholds, detections] each."""
    hits = np.zeros((len(_THRESHOLDS), len(ours)), bool)
    ignored = hits.copy()
    overlaps = [[_overlap(one, box) for box in theirs] for one in ours]
    for number, threshold in enumerate(_THRESHOLDS):
        taken: set[int] = set()
        for index, row in enumerate(overlaps):
            free = [
                k for k, box in enumerate(theirs) if row[k] >= threshold and (box.crowd or k not in taken)
            ]
            objects = [k for k in free if not theirs[k].crowd]
            if objects:
                taken.add(max(objects, key=lambda k: (row[k], k)))  # of equal ones the last, as in COCO's
                hits[number, index] = True
            else:
                ignored[number, index] = bool(free)
    return hits, ignored


def _overlap(one: Detection, box: Box) -> float:
    """Intersection over union; intersection over the detection's area where the true box is a crowd."""
    ax1, ay1, ax2, ay2 = one.corners
    bx1, by1, bx2, by2 = box.corners
    both = max(0.0, min(ax2, bx2) - max(ax1, bx1)) * max(0.0, min(ay2, by2) - max(ay1, by1))
    own = (ax2 - ax1) * (ay2 - ay1)
    whole = own if box.crowd else own + (bx2 - bx1) * (by2 - by1) - both
    return both / whole if whole > 0 else 0.0


def _precision(hits: Array, there: int) -> float:
    """Mean precision at 101 recalls; each counts the best precision at that recall or a higher one."""
    if not len(hits):
        return 0.0
    found = np.cumsum(hits)
    recall, precision = found / there, found / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, _RECALLS)
    return float(np.sum(precision[at[at < len(precision)]]) / len(_RECALLS))
