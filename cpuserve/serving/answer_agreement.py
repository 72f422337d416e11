"""Compares the answers that a server gives with two forms of a model: agreement with the float model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cpuserve.errors import RequestError
from cpuserve.serving.answer_tally import Tally
from cpuserve.serving.comparable_answers import (
    BoxAnswer,
    ComparableAnswer,
    LabelAnswer,
    MaskAnswer,
    PointAnswer,
    RankedAnswer,
    TextAnswer,
    VectorAnswer,
)
from cpuserve.serving.picture_input import PictureSize
from cpuserve.serving.postprocess import Answer, Postprocessor, Segmenter, TensorsOnly

__all__ = ["AnswerAgreement", "AnswerReader", "ServedAnswers", "VectorReader", "comparable_answer"]

Array = npt.NDArray[Any]
Outputs = Sequence[Array]
_RANKS = 5  # classes that are compared
_MASK_SIDE = 512  # masks are compared at this size at most
_SMALLEST = 0.1  # of a picture's longer side: the smallest object that keypoints are measured by


class AnswerReader(Protocol):
    """Makes of the outputs for a picture an answer that can be compared.

    Attributes:
        what: what is compared, in words.
        why_not: why nothing can be compared; empty where it can.
    """

    what: str
    why_not: str

    def __call__(self, outputs: Outputs, index: int) -> ComparableAnswer | None:
        """The answer to picture ``index``; None where the model gives none that means anything."""


class AnswerAgreement:
    """How far a model's answers agree with the float model's: 0 to 1.

    Args:
        reader: reads answers from outputs.
        name: in `--metric` and in the card.
    """

    def __init__(self, reader: AnswerReader, name: str = "agreement") -> None:
        self._reader, self.name = reader, name
        self._reference: list[ComparableAnswer | None] = []

    @property
    def answers(self) -> int:
        """Number of the float model's answers."""
        return Tally.total(self._centred(one).against(one) for one in self._reference if one).answers

    @property
    def compared_with(self) -> str:
        """What the answers are compared with."""
        return f"the float model's own {self._reader.what}"

    def learn(self, outputs: Outputs) -> None:
        """Takes the float model's outputs for the next picture as the reference."""
        self._reference.append(self._read(outputs, len(self._reference)))

    def keep(self, outputs: Outputs, index: int) -> Tally:
        """What agrees in the answer to a picture."""
        before = self._reference[index]
        if before is None:  # the float model says nothing that could be compared
            return Tally()
        return self._centred(before).against(self._read(outputs, index))

    def value(self, kept: Sequence[Tally]) -> float:
        """The share that agrees."""
        total = Tally.total(kept)
        return total.by_class if isinstance(self._first, MaskAnswer) else total.pooled

    def why_not(self) -> str:
        """Why the float model's answers decide nothing; empty where they do."""
        if self._reader.why_not:
            return self._reader.why_not
        found = [one for one in self._reference if one is not None]
        total = Tally.total(self._centred(one).against(self._centred(one)) for one in found)
        pictures = f"{len(self._reference)} pictures"
        if not total.answers or not any(total.whole.values()):
            return f"the float model gives no {self._reader.what} on the {pictures}"
        alike = len({one.said for one in found}) < 2
        if alike and (len(found) > 1 or not isinstance(found[0], BoxAnswer)):
            return (
                f"the float model gives the same {self._reader.what} on all {pictures}; a model that always "
                "answers so would agree: take pictures with different answers"
            )
        return ""

    @property
    def _first(self) -> ComparableAnswer | None:
        return next((one for one in self._reference if one is not None), None)

    def _read(self, outputs: Outputs, index: int) -> ComparableAnswer | None:
        if any(part.dtype.kind == "f" and np.isnan(part).any() for part in outputs):
            return None
        return self._reader(outputs, index)

    def _centred(self, answer: ComparableAnswer) -> ComparableAnswer:
        if not isinstance(answer, VectorAnswer):
            return answer
        vectors = [one.values for one in self._reference if isinstance(one, VectorAnswer)]
        return replace(answer, centre=np.mean(vectors, axis=0))


_Read = Callable[[Answer, PictureSize], ComparableAnswer | None]


class ServedAnswers:
    """Reads answers by the post-processing that is served.

    Args:
        post: the post-processing, or why there is none.
        frames: size of each picture.
    """

    def __init__(self, post: Postprocessor | TensorsOnly, frames: Sequence[PictureSize]) -> None:
        self.what = "answers"
        self.why_not = f"it answers tensors only: {post.reason}" if isinstance(post, TensorsOnly) else ""
        self._post, self._frames = post, frames

    def __call__(self, outputs: Outputs, index: int) -> ComparableAnswer | None:
        """The answer to picture ``index``; None for outputs that make none."""
        if isinstance(self._post, TensorsOnly):
            return None
        frame = self._frames[index]
        with np.errstate(all="ignore"):  # of a broken model's numbers
            return self._found(self._post, outputs, frame)

    def _found(self, post: Postprocessor, outputs: Outputs, frame: PictureSize) -> ComparableAnswer | None:
        try:
            answer = post.answer([np.array(part) for part in outputs], None, frame)
            if len(answer.get("predictions", ())) == 1 < outputs[0].size and not answer.get("multilabel"):
                best = min(_RANKS, outputs[0].size)  # one class has no rank
                answer = post.answer([np.array(part) for part in outputs], best, frame)
            if "classes" in answer:
                self.what = "masks"
                return _mask(post, outputs, frame)
            key = next((known for known in _KINDS if known in answer), "")
            if not key:
                self.why_not = (
                    f"there is no comparison for answers with {', '.join(answer) or 'nothing in them'}"
                )
                return None
            self.what, read = _KINDS[key]
            return read(answer, frame)
        except (RequestError, ValueError, IndexError, ArithmeticError):
            return None  # outputs that make no answer agree with nothing


def _score(entry: dict[str, Any]) -> float:
    """How sure an entry of an answer is, by whichever name."""
    return float(entry.get("probability", entry.get("score", 1.0)))


def _scores(entries: Sequence[dict[str, Any]]) -> dict[int, float] | None:
    found = {int(entry["class_id"]): _score(entry) for entry in entries}
    return found if np.isfinite(list(found.values())).all() else None


def _classes(answer: Answer, _frame: PictureSize) -> ComparableAnswer | None:
    scores = _scores(answer["predictions"])
    if scores is None:
        return None
    return LabelAnswer(scores) if answer.get("multilabel") else RankedAnswer(scores)


def _boxes(answer: Answer, _frame: PictureSize) -> ComparableAnswer | None:
    entries = answer["detections"]
    corners = np.array([entry["box"] for entry in entries], np.float64).reshape(-1, 4)
    scores = np.array([_score(entry) for entry in entries], np.float64)
    if not (np.isfinite(corners).all() and np.isfinite(scores).all()):
        return None
    points = tuple(_points_of(entry) for entry in entries if "keypoints" in entry)
    return BoxAnswer(corners, np.array([entry["class_id"] for entry in entries], np.int64), scores, points)


def _points_of(entry: dict[str, Any]) -> PointAnswer:
    """The keypoints of a box, by their place in the list."""
    left, top, right, bottom = entry["box"]
    found = [(float(one["point"][0]), float(one["point"][1])) for one in entry["keypoints"]]
    places, scores = dict(enumerate(found)), dict(enumerate(map(_score, entry["keypoints"])))
    return PointAnswer(places, scores, float((right - left) * (bottom - top)) ** 0.5)


def _points(answer: Answer, frame: PictureSize) -> ComparableAnswer | None:
    entries = answer["keypoints"]
    points = {
        int(entry["class_id"]): (float(entry["point"][0]), float(entry["point"][1])) for entry in entries
    }
    scores = _scores(entries)
    if scores is None or not np.isfinite(list(points.values())).all():
        return None
    return PointAnswer(points, scores, _SMALLEST * max(frame.width, frame.height))


def _mask(post: Postprocessor, outputs: Outputs, frame: PictureSize) -> ComparableAnswer | None:
    if not isinstance(post, Segmenter):
        return None
    shrink = min(1.0, _MASK_SIDE / max(frame.width, frame.height))
    small = PictureSize(max(1, round(frame.width * shrink)), max(1, round(frame.height * shrink)))
    return MaskAnswer(post.mask(outputs, small))


def _text(answer: Answer, _frame: PictureSize) -> ComparableAnswer | None:
    return TextAnswer(answer["text"])


def comparable_answer(answer: Answer) -> ComparableAnswer | None:
    """An answer as JSON in a form that can be compared; None where nothing in it can be.

    Of a segmentation it has the area of each class, since the answer has no mask.

    Raises:
        LookupError, TypeError, ValueError: it is no answer of this server.
    """
    entries = answer.get("classes")
    if isinstance(entries, list):
        return LabelAnswer({int(one["class_id"]): float(one["area"]) for one in entries})
    points = [one["point"] for one in answer.get("keypoints", ())]
    frame = PictureSize(*(max((round(point[axis]) for point in points), default=1) for axis in (0, 1)))
    for key, (_, read) in _KINDS.items():
        if key in answer:
            return read(answer, frame)
    return None


_KINDS: dict[str, tuple[str, _Read]] = {
    "predictions": ("classes", _classes),
    "detections": ("boxes", _boxes),
    "keypoints": ("keypoints", _points),
    "text": ("texts", _text),
}


class VectorReader:
    """Reads the only output as an embedding."""

    what = "embeddings"
    why_not = ""

    def __call__(self, outputs: Outputs, index: int) -> ComparableAnswer | None:
        """The vector of picture ``index``; None where it has no direction."""
        values = np.asarray(outputs[0], np.float64).ravel()
        length = float(np.linalg.norm(values))
        if not np.isfinite(length) or not length:
            return None
        return VectorAnswer(values / length, np.zeros_like(values))
