"""Metrics that turn a model's answers into one number: top1, miou, map, agreement, areas or a function."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cpuserve.authoring.average_precision import Detection, mean_average_precision
from cpuserve.authoring.labelled_pictures import Box
from cpuserve.authoring.parity import Array, class_map
from cpuserve.errors import UsageError

__all__ = [
    "AccuracyMetric",
    "Areas",
    "CustomMetric",
    "FloatAgreement",
    "MeanAveragePrecision",
    "MeanIou",
    "Top1",
    "load_function",
]

Outputs = Sequence[Array]  # one array an output, of one picture, without the batch
_IGNORED = 255  # in masks: the pixel does not count, as in PASCAL VOC


class AccuracyMetric(Protocol):
    """Turns the outputs for some pictures into a number; keeps of each picture only what that needs.

    Attributes:
        name: its name in `--metric` and in the card.
    """

    @property
    def name(self) -> str:
        """Its name in ``--metric`` and in the card."""

    def keep(self, outputs: Outputs, index: int) -> Any:
        """Keeps what `value` needs of the outputs for picture ``index``."""

    def value(self, kept: Sequence[Any]) -> float:
        """The number for some pictures; more is better."""


class Top1:
    """Share of the pictures whose best class is a true one.

    Args:
        classes: the true classes of each picture.
    """

    name = "top1"

    def __init__(self, classes: Sequence[frozenset[int]]) -> None:
        self._classes = classes

    def keep(self, outputs: Outputs, index: int) -> bool:
        """Whether the best class is true."""
        return int(outputs[0].argmax()) in self._classes[index]

    def value(self, kept: Sequence[bool]) -> float:
        """The share of true ones."""
        return sum(kept) / len(kept)


class MeanIou:
    """Mean over the classes of intersection over union, counted over all pictures as in PASCAL VOC.

    Classes that are in neither the masks nor the answers do not count, nor do pixels of 255 in a mask.

    Args:
        masks: mask of each picture, u8 [H, W], resized as the picture is.
    """

    name = "miou"

    def __init__(self, masks: Sequence[Array]) -> None:
        self._masks = masks

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


class MeanAveragePrecision:
    """COCO's mAP over IoU 0.50 to 0.95.

    Args:
        truth: true objects of each picture.
        detections: reads detections from the outputs for a picture and the picture's number.
    """

    name = "map"

    def __init__(
        self,
        truth: Sequence[Sequence[Box]],
        detections: Callable[[Outputs, int], Sequence[Detection]],
    ) -> None:
        self._truth = truth
        self._detections = detections

    def keep(self, outputs: Outputs, index: int) -> tuple[Sequence[Detection], Sequence[Box]]:
        """The detections and the true objects."""
        return self._detections(outputs, index), self._truth[index]

    def value(self, kept: Sequence[tuple[Sequence[Detection], Sequence[Box]]]) -> float:
        """The mean."""
        return mean_average_precision(kept)


class FloatAgreement:
    """How far answers agree with the float model's, for pictures without labels.

    Class scores: share of the pictures with the same best class. Class maps: share of the pixels with the
    same class, mean over the pictures. Other outputs: cosine similarity.

    Args:
        kind: ``model_type`` of the card; empty: judged by the first output.
    """

    name = "agreement"

    def __init__(self, kind: str = "") -> None:
        self._kind = kind.lower()
        self._reference: list[Any] = []

    def learn(self, outputs: Outputs) -> None:
        """Takes the float model's outputs for the next picture as the reference."""
        self._reference.append(self._essence(outputs))

    def keep(self, outputs: Outputs, index: int) -> float:
        """How far the answer for a picture agrees, 0 to 1."""
        before, after = self._reference[index], self._essence(outputs)
        if isinstance(before, int):
            return float(before == after)
        if before.dtype.kind == "i":
            return float(np.mean(before == after))
        scale = float(np.linalg.norm(before) * np.linalg.norm(after))
        return float(before @ after) / scale if scale else float(not before.any() and not after.any())

    def value(self, kept: Sequence[float]) -> float:
        """The mean."""
        return sum(kept) / len(kept)

    def _essence(self, outputs: Outputs) -> Any:
        first = np.asarray(outputs[0]).squeeze()
        maps = first.ndim == 2 and first.dtype.kind in "iu"
        if self._kind == "classification" or (not self._kind and len(outputs) == 1 and first.ndim <= 1):
            return int(first.argmax())
        if self._kind == "segmentation" or (
            not self._kind and len(outputs) == 1 and (maps or first.ndim == 3)
        ):
            return class_map(first).astype(np.int32)
        return np.concatenate([np.asarray(part, np.float64).ravel() for part in outputs])


class Areas(FloatAgreement):
    """1 minus the largest difference of a class's area to the float model's in any picture.

    The area of a class is its share of the picture's pixels.
    """

    name = "areas"

    def __init__(self) -> None:
        super().__init__("segmentation")

    def keep(self, outputs: Outputs, index: int) -> float:
        """1 minus the picture's largest difference."""
        before, after = self._reference[index].ravel(), self._essence(outputs).ravel()
        most = int(max(before.max(), after.max())) + 1
        counts = np.bincount(before, minlength=most) - np.bincount(after, minlength=most)
        largest = float(np.abs(counts).max())
        return 1 - largest / int(before.size)

    def value(self, kept: Sequence[float]) -> float:
        """The value of the worst picture."""
        return min(kept)


class CustomMetric:
    """A metric that the user wrote.

    Args:
        name: MODULE:FUNCTION.
        function: takes a list with the outputs of each picture (arrays without the batch) and a list of the
            files; returns a number, more is better.
        files: files of all pictures.
    """

    def __init__(
        self, name: str, function: Callable[[list[list[Array]], list[Path]], Any], files: Sequence[Path]
    ) -> None:
        self._name = name
        self._function = function
        self._files = files

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
