"""Metrics that turn a model's answers into one number: top1, miou, map, agreement, areas or a function."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from cpuserve.authoring.average_precision import Detection, mean_average_precision
from cpuserve.authoring.labelled_pictures import Box
from cpuserve.authoring.parity import Array, Ids, class_map
from cpuserve.errors import UsageError

__all__ = [
    "AccuracyMetric",
    "Areas",
    "CustomMetric",
    "LearningMetric",
    "MeanAveragePrecision",
    "MeanIou",
    "Top1",
    "load_function",
]

Outputs = Sequence[Array]  # one array an output, of one picture, without the batch
_LARGE = 0.05  # of a picture: the area of a class whose place counts
_IGNORED = 255  # in masks: the pixel does not count, as in PASCAL VOC


class AccuracyMetric(Protocol):
    """Turns the outputs for some pictures into a number; keeps of each picture only what that needs.

    Attributes:
        name: its name in `--metric` and in the card.
        compared_with: what counts as right, in words.
        answers: how many answers count.
    """

    @property
    def name(self) -> str:
        """Its name in ``--metric`` and in the card."""

    @property
    def compared_with(self) -> str:
        """What counts as right, in words."""

    @property
    def answers(self) -> int:
        """How many answers count."""

    def keep(self, outputs: Outputs, index: int) -> Any:
        """Keeps what `value` needs of the outputs for picture ``index``."""

    def value(self, kept: Sequence[Any]) -> float:
        """The number for some pictures; more is better."""

    def why_not(self) -> str:
        """Why the number would not show that a model is worse; empty where it does."""


@runtime_checkable
class LearningMetric(AccuracyMetric, Protocol):
    """A metric that compares with the float model's answers."""

    def learn(self, outputs: Outputs) -> None:
        """Takes the float model's outputs for the next picture."""


class Top1:
    """Share of the pictures whose best class is a true one.

    Args:
        classes: the true classes of each picture.
    """

    name = "top1"
    compared_with = "your labels"

    def __init__(self, classes: Sequence[frozenset[int]]) -> None:
        self._classes = classes
        self.answers = len(classes)

    def keep(self, outputs: Outputs, index: int) -> float:
        """Whether the best class is true, 0 or 1; of several that are equal, the share that is."""
        scores = np.asarray(outputs[0]).ravel()
        best = np.flatnonzero(scores == scores.max())  # none where one is NaN
        return sum(key in self._classes[index] for key in best.tolist()) / len(best) if len(best) else 0.0

    def value(self, kept: Sequence[float]) -> float:
        """The share of true ones."""
        return sum(kept) / len(kept)

    def why_not(self) -> str:
        """Whether always the same answer would be right."""
        if self._classes and frozenset.intersection(*self._classes):
            return "all pictures have the same class; a model that always answers it would be right"
        return ""


class MeanIou:
    """Mean over the classes of intersection over union, counted over all pictures as in PASCAL VOC.

    Classes that are in neither the masks nor the answers do not count, nor do pixels of 255 in a mask.

    Args:
        masks: mask of each picture, u8 [H, W], resized as the picture is.
    """

    name = "miou"
    compared_with = "your masks"

    def __init__(self, masks: Sequence[Array]) -> None:
        self._masks = masks
        self.answers = len(masks)

    def keep(self, outputs: Outputs, index: int) -> tuple[Array, Array]:
        """Number of pixels in intersection and union of each class, [256] each."""
        found = class_map(outputs[0])
        height, width = found.shape
        mask = self._masks[index]
        # a map smaller than the input: the mask's pixel at the centre of each of its cells
        rows = ((np.arange(height) + 0.5) * mask.shape[0] / height).astype(np.intp)
        columns = ((np.arange(width) + 0.5) * mask.shape[1] / width).astype(np.intp)
        truth = mask[rows[:, None], columns]
        counts = truth != _IGNORED
        ours, theirs = np.minimum(found[counts], _IGNORED), truth[counts]
        both = np.bincount(ours[ours == theirs], minlength=256)
        return both, np.bincount(ours, minlength=256) + np.bincount(theirs, minlength=256) - both

    def value(self, kept: Sequence[tuple[Array, Array]]) -> float:
        """The mean."""
        both = np.sum([intersection for intersection, _ in kept], axis=0)
        either = np.sum([union for _, union in kept], axis=0)
        named = either > 0
        return float(np.mean(both[named] / either[named])) if named.any() else 0.0

    def why_not(self) -> str:
        """Whether always the same answer would be right."""
        found: set[int] = set()
        for mask in self._masks:
            found.update(np.unique(mask).tolist())
        if len(found - {_IGNORED}) < 2:
            return "all masks show one class only; a model that always answers it would be right"
        return ""


class MeanAveragePrecision:
    """COCO's mAP over IoU 0.50 to 0.95.

    Args:
        truth: true objects of each picture.
        detections: reads detections from the outputs for a picture and the picture's number.
    """

    name = "map"
    compared_with = "your boxes"

    def __init__(
        self,
        truth: Sequence[Sequence[Box]],
        detections: Callable[[Outputs, int], Sequence[Detection]],
    ) -> None:
        self._truth = truth
        self._detections = detections
        self.answers = sum(map(len, truth))

    def keep(self, outputs: Outputs, index: int) -> tuple[Sequence[Detection], Sequence[Box]]:
        """The detections and the true objects."""
        return self._detections(outputs, index), self._truth[index]

    def value(self, kept: Sequence[tuple[Sequence[Detection], Sequence[Box]]]) -> float:
        """The mean."""
        return mean_average_precision(kept)

    def why_not(self) -> str:
        """Whether there is no box to find."""
        return "" if self.answers else "the validation pictures have no boxes"


class Areas:
    """1 minus the largest difference of a class's area to the float model's in any picture.

    The area of a class is its share of the picture's pixels. Of a large class most has to lie where the float
    model sees it, or all of its area differs.
    """

    name = "areas"
    compared_with = "the float model's own areas"

    def __init__(self) -> None:
        self._reference: list[Ids] = []

    @property
    def answers(self) -> int:
        """Number of areas."""
        return sum(len(np.unique(ids)) for ids in self._reference)

    def learn(self, outputs: Outputs) -> None:
        """Takes the float model's outputs for the next picture as the reference."""
        self._reference.append(class_map(np.asarray(outputs[0]).squeeze()).ravel())

    def keep(self, outputs: Outputs, index: int) -> float:
        """1 minus the picture's largest difference."""
        before, after = self._reference[index], class_map(np.asarray(outputs[0]).squeeze()).ravel()
        differences = []
        for key in np.union1d(before, after):
            mine, its = before == key, after == key
            differences.append(abs(float(mine.mean() - its.mean())))
            both, either = (mine & its).sum(), (mine | its).sum()
            if mine.mean() >= _LARGE and both < either / 2:
                differences.append(float(mine.mean()))
        return 1 - max(differences)

    def value(self, kept: Sequence[float]) -> float:
        """The value of the worst picture."""
        return min(kept)

    def why_not(self) -> str:
        """Why equal areas would show nothing."""
        if len(np.unique(np.concatenate(self._reference))) == 1:
            return "the float model gives all pixels of all pictures the same class"
        return ""


class CustomMetric:
    """A metric that the user wrote, who knows what it shows.

    Args:
        name: MODULE:FUNCTION.
        function: takes a list with the outputs of each picture (arrays without the batch) and a list of the
            files; returns a number, more is better.
        files: files of all pictures.
    """

    compared_with = "what your function takes for right"

    def __init__(
        self, name: str, function: Callable[[list[list[Array]], list[Path]], Any], files: Sequence[Path]
    ) -> None:
        self._name = name
        self._function = function
        self._files = files
        self.answers = len(files)

    @property
    def name(self) -> str:
        """MODULE:FUNCTION."""
        return self._name

    def keep(self, outputs: Outputs, index: int) -> tuple[list[Array], Path]:
        """A copy of the outputs, and the file."""
        return [np.array(output) for output in outputs], self._files[index]

    def value(self, kept: Sequence[tuple[list[Array], Path]]) -> float:
        """Calls the function.

        Raises:
            UsageError: it returns no finite number.
        """
        found = self._function([outputs for outputs, _ in kept], [file for _, file in kept])
        try:
            number = float(found)
        except (TypeError, ValueError):
            number = float("nan")
        if not np.isfinite(number):
            raise UsageError(f"--metric {self._name} returned {found!r}; it must return a finite number")
        return number

    def why_not(self) -> str:
        """Nothing: its author answers for it."""
        return ""


def load_function(name: str) -> Callable[..., Any]:
    """Imports MODULE:FUNCTION; the module may be in the working directory.

    Raises:
        UsageError: there is none.
    """
    module, _, function = name.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"--metric {name}: {error}; it is MODULE:FUNCTION, importable from here") from error
    finally:
        sys.path.remove(here)
    if not callable(found):
        raise UsageError(f"--metric {name} is {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]
