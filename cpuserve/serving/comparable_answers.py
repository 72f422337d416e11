"""Compares two answers of one kind: classes, label sets, boxes, keypoints, masks, embeddings, texts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cpuserve.serving.answer_tally import Tally
from cpuserve.serving.postprocess.segmentation import NOT_SEEN

__all__ = [
    "BoxAnswer",
    "ComparableAnswer",
    "LabelAnswer",
    "MaskAnswer",
    "PointAnswer",
    "RankedAnswer",
    "TextAnswer",
    "VectorAnswer",
]

Array = npt.NDArray[Any]

_SURE_IOU, _LEAST_IOU = 0.9, 0.5  # an overlap of the first counts whole, of the second not at all
_FREE, _FAR = 0.1, 0.5  # a score may differ by the first; from the second on nothing agrees
_COCO_SIGMAS = (
    *(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072),
    *(0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
)
_SIGMA = 0.05  # of a point of another skeleton


class ComparableAnswer(Protocol):
    """An answer to one picture."""

    @property
    def said(self) -> Hashable:
        """What it answers, without how sure it is: to see whether all pictures get the same answer."""

    def against(self, other: Any) -> Tally:
        """How far another answer of this kind agrees; None agrees in nothing."""


@dataclass(frozen=True)
class RankedAnswer:
    """The best classes and their scores.

    Attributes:
        scores: by class.
    """

    scores: Mapping[int, float]

    @property
    def said(self) -> Hashable:
        """The best class; of a single score, whether it is above one half."""
        if len(self.scores) == 1:
            return next(iter(self.scores.values())) > 0.5
        return max(self.scores, key=self.scores.__getitem__, default=None)

    def against(self, other: RankedAnswer | None) -> Tally:
        """Compares the order of each two classes; a pair counts by how far its scores are apart.

        A class that the other does not name is behind all that it names. Equal scores are half an order.
        """
        tally, scores = Tally(answers=1), _with_rest(self.scores)
        best = max(scores, key=scores.__getitem__, default=-1)
        pairs = [(a, b) for a in scores for b in scores if scores[a] > scores[b]]
        whole = sum(scores[a] - scores[b] for a, b in pairs)
        theirs = {} if other is None else _with_rest(other.scores)
        agreed = 0.0
        for a, b in pairs if theirs else ():
            first, second = theirs.get(a, -math.inf), theirs.get(b, -math.inf)
            agreed += (scores[a] - scores[b]) * (0.5 if first == second else float(first > second))
        if pairs and theirs:
            agreed *= _near(scores[best], theirs.get(best), free=0.2, far=0.7)
        tally.count(best, agreed, whole, 1.0)
        tally.missed = int(bool(pairs) and (not theirs or max(theirs, key=theirs.__getitem__) != best))
        return tally


@dataclass(frozen=True)
class LabelAnswer:
    """The labels that a model gives a picture, any number of them.

    Attributes:
        scores: by class.
    """

    scores: Mapping[int, float]

    @property
    def said(self) -> Hashable:
        """The set of labels."""
        return frozenset(self.scores)

    def against(self, other: LabelAnswer | None) -> Tally:
        """Compares the sets; a label counts by its score, in both directions."""
        theirs = {} if other is None else other.scores
        tally = Tally(answers=len(self.scores))
        for class_id in self.scores.keys() | theirs.keys():
            before, after = self.scores.get(class_id), theirs.get(class_id)
            whole = (before or 0.0) + (after or 0.0)
            agreed = 0.0
            if before is not None and after is not None:
                agreed = whole * _near(before, after)
            tally.missed += after is None
            tally.invented += before is None
            tally.count(class_id, agreed, whole, float(before is not None))
        return tally


@dataclass(frozen=True)
class BoxAnswer:
    """Boxes.

    Attributes:
        corners: f32 [N, 4], x1 y1 x2 y2 in pixels of the picture.
        classes: integer [N].
        scores: f32 [N].
        points: keypoints of each; empty where the model finds none.
    """

    corners: Array
    classes: Array
    scores: Array
    points: tuple[PointAnswer, ...] = ()

    @property
    def said(self) -> Hashable:
        """The boxes."""
        return (self.classes.tobytes(), self.corners.round().tobytes())

    def against(self, other: BoxAnswer | None) -> Tally:
        """Matches boxes of a class by overlap, the surest first; a box counts by its score.

        An overlap (IoU) of 0.9 agrees wholly and one of 0.5 not at all; a score that differs by up to 0.1
        agrees wholly and by 0.5 not at all; keypoints of a box agree as those of one object do. Boxes without
        a match count against it in both directions.
        """
        theirs = BoxAnswer(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0)) if other is None else other
        tally = Tally(answers=len(self.scores))
        for class_id, count in Counter(self.classes.tolist()).items():
            tally.support[class_id] = float(count)
        for classes, scores in ((self.classes, self.scores), (theirs.classes, theirs.scores)):
            for class_id, score in zip(classes.tolist(), scores.tolist(), strict=True):
                tally.count(class_id, 0.0, score)
        free = set(range(len(self.scores)))
        overlaps = _overlaps(theirs.corners, self.corners)
        for index in np.argsort(-theirs.scores, kind="stable").tolist():
            same = [place for place in free if self.classes[place] == theirs.classes[index]]
            if not same or overlaps[index, same].max() < _LEAST_IOU:
                tally.invented += 1
                continue
            best = same[int(overlaps[index, same].argmax())]
            free.remove(best)
            before, after = float(self.scores[best]), float(theirs.scores[index])
            share = min(1.0, (float(overlaps[index, best]) - _LEAST_IOU) / (_SURE_IOU - _LEAST_IOU))
            if self.points:
                share *= self.points[best].against(theirs.points[index] if theirs.points else None).pooled
            tally.count(int(theirs.classes[index]), (before + after) * share * _near(before, after), 0.0)
        tally.missed = len(free)
        return tally


@dataclass(frozen=True)
class PointAnswer:
    """Keypoints of one object.

    Attributes:
        points: by keypoint, x, y in pixels of the picture.
        scores: by keypoint.
        smallest: side in pixels of the smallest object the picture is taken to show.
    """

    points: Mapping[int, tuple[float, float]]
    scores: Mapping[int, float]
    smallest: float

    @property
    def said(self) -> Hashable:
        """The points, in whole pixels."""
        return tuple((key, round(x), round(y)) for key, (x, y) in sorted(self.points.items()))

    def against(self, other: PointAnswer | None) -> Tally:
        """Compares each point by COCO's object keypoint similarity (OKS); it counts by its score."""
        tally = Tally(answers=len(self.points))
        theirs = PointAnswer({}, {}, 0.0) if other is None else other
        area = self._area()
        highest = max(self.points, default=0)
        for key in self.points.keys() | theirs.points.keys():
            before, after = self.scores.get(key, 0.0), theirs.scores.get(key, 0.0)
            agreed = 0.0
            if key in self.points and key in theirs.points:
                apart = math.dist(self.points[key], theirs.points[key])
                sigma = _COCO_SIGMAS[key] if highest < len(_COCO_SIGMAS) and len(self.points) > 5 else _SIGMA
                similar = math.exp(-(apart**2) / (2 * area * (2 * sigma) ** 2))
                agreed = (before + after) * similar * _near(before, after, free=0.2, far=0.7)
            tally.missed += key not in theirs.points
            tally.invented += key not in self.points
            tally.count(key, agreed, before + after, float(key in self.points))
        return tally

    def _area(self) -> float:
        """Of the box around the points."""
        sides = [max(axis) - min(axis) for axis in zip(*self.points.values(), strict=True)] or [0.0]
        return math.prod(max(side, self.smallest) for side in sides)


@dataclass(frozen=True)
class MaskAnswer:
    """The class of each pixel.

    Attributes:
        classes: u8 [H, W].
    """

    classes: Array

    @property
    def said(self) -> Hashable:
        """The only class of the picture, or the mask."""
        only = np.unique(self.classes[self.classes != NOT_SEEN])
        return only.tobytes() if len(only) < 2 else self.classes.tobytes()

    def against(self, other: MaskAnswer | None) -> Tally:
        """Intersection and union of each class, as shares of the picture."""
        ours = self.classes.ravel()
        theirs = np.full_like(ours, NOT_SEEN) if other is None else other.classes.ravel()
        found, there, both = (_shares(one) for one in (ours, theirs, ours[ours == theirs]))
        found, there, both = found / ours.size, there / ours.size, both / ours.size
        tally = Tally(answers=int((found > 0).sum()))
        for key in np.flatnonzero(found + there).tolist():
            tally.count(key, float(both[key]), float(found[key] + there[key] - both[key]), 100 * found[key])
        tally.missed = int(((found > 0) & (both == 0)).sum())
        tally.invented = int(((there > 0) & (found == 0)).sum())
        return tally


@dataclass(frozen=True)
class VectorAnswer:
    """An embedding.

    Attributes:
        values: f64 [D] of length 1, less `centre`.
        centre: f64 [D], the mean of the float model's embeddings of length 1; zeros before it is known.
    """

    values: Array
    centre: Array

    @property
    def said(self) -> Hashable:
        """The values."""
        return self.values.round(6).tobytes()

    def against(self, other: VectorAnswer | None) -> Tally:
        """Cosine of the two around the centre: what all pictures have in common says nothing about one."""
        tally = Tally(answers=1)
        cosine = 0.0
        if other is not None:
            before, after = self.values - self.centre, other.values - self.centre
            scale = float(np.linalg.norm(before) * np.linalg.norm(after))
            cosine = max(0.0, float(before @ after) / scale) if scale > 0 else 0.0
        tally.count(0, cosine, 1.0)
        return tally


@dataclass(frozen=True)
class TextAnswer:
    """A text that was read.

    Attributes:
        text: it.
    """

    text: str

    @property
    def said(self) -> Hashable:
        """The text."""
        return self.text

    def against(self, other: TextAnswer | None) -> Tally:
        """The characters less those to insert, delete or replace (edit distance)."""
        theirs = "" if other is None else other.text
        tally = Tally(answers=int(bool(self.text)), missed=int(bool(self.text) and self.text != theirs))
        longest = max(len(self.text), len(theirs))
        tally.count(0, longest - _edits(self.text, theirs), longest)
        return tally


def _shares(classes: Array) -> Array:
    """Number of pixels of each class, [255]; pixels of no class are left out."""
    return np.bincount(classes[classes != NOT_SEEN], minlength=NOT_SEEN)


def _with_rest(scores: Mapping[int, float]) -> dict[int, float]:
    """The scores; beside a single probability, that of the opposite as class -1."""
    if len(scores) != 1:
        return dict(scores)
    (score,) = scores.values()
    return {**scores, -1: 1 - score} if 0 <= score <= 1 else dict(scores)


def _near(before: float, after: float | None, *, free: float = _FREE, far: float = _FAR) -> float:
    """How far two probabilities agree, 1 to 0; scores of other ranges have no scale to compare by."""
    if after is None or not (0 <= before <= 1 and 0 <= after <= 1):
        return 1.0
    return min(1.0, max(0.0, 1 - (abs(before - after) - free) / (far - free)))


def _overlaps(first: Array, second: Array) -> Array:
    """Intersection over union of each two boxes, [len(first), len(second)]."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    either = areas[0][:, None] + areas[1][None] - both
    found: Array = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    return found


def _edits(first: str, second: str) -> int:
    row = list(range(len(second) + 1))
    for place, letter in enumerate(first, 1):
        before, row[0] = row[0], place
        for column, other in enumerate(second, 1):
            before, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, before + (letter != other)),
            )
    return row[-1]
