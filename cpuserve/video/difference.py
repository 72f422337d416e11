"""Difference detectors: whether a frame differs from one seen before, or from a picture without the object.

The same object runs over the frames of a training clip and, in the process that decodes, over new ones.
"""

from __future__ import annotations

import io
import math
import zipfile
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cpuserve.errors import UsageError
from cpuserve.serving.decode import Pixels
from cpuserve.serving.engine import Array
from cpuserve.video.logistic import Logistic
from cpuserve.video.picture_difference import (
    SmallPicture,
    block_errors,
    block_features,
    residual,
    small_picture,
)
from cpuserve.video.scale import Scale
from cpuserve.video.specialised_cnn import CNN_SCALE

__all__ = ["DIFFERENCE_SCALE", "DifferenceDetector", "FrameDifference", "make_detector"]

DIFFERENCE_SCALE = CNN_SCALE  # one picture serves both: to scale costs more than to compare
_CHANGED = 400.0  # mean squared difference of a block that changed: 20 of 255
_JUMP = 0.5  # share of blocks that change at once when the exposure jumps


class FrameDifference(NamedTuple):
    """What a detector says of a frame.

    Attributes:
        value: how much it differs; infinite where there is nothing to compare with.
        anchor: number of the frame whose label it takes if it does not differ. None: there is none; if
            ``value`` is finite, it was compared with a picture without the object.
    """

    value: float
    anchor: int | None


class DifferenceDetector(ABC):
    """Compares the frames of a clip one after the other.

    Attributes:
        name: ``global:10``, ``blocked:10``, ``global:reference``, ``blocked:reference`` or ``average``.
        scale: what frames have to be scaled to.
    """

    scale: Scale = DIFFERENCE_SCALE

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def reset(self) -> None:
        """Forgets all frames: a segment starts."""

    def step(self, number: int, pixels: Pixels) -> FrameDifference:
        """Compares the next frame that is looked at.

        Args:
            number: place of the frame in its clip; ascending since the last `reset`.
            pixels: u8 [h, w, 3] of the detector's scale; not kept.
        """
        return self.compare(number, small_picture(pixels))

    @abstractmethod
    def compare(self, number: int, picture: SmallPicture) -> FrameDifference:
        """As `step`, for a picture that is ready: several detectors may share it."""

    def state(self) -> dict[str, Array]:
        """What `make_detector` needs to make the same one again."""
        return {}

    def save(self, path: Path) -> None:
        """Writes the detector to a file."""
        content = io.BytesIO()
        np.savez(content, name=np.array(self.name), **self.state())  # type: ignore[arg-type]
        path.write_bytes(content.getvalue())

    @staticmethod
    def load(path: Path) -> DifferenceDetector:
        """Reads what `save` wrote.

        Raises:
            UsageError: the file is none.
        """
        try:
            with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
                state = {name: file[name] for name in file.files}
            return make_detector(str(state.pop("name")), state)
        except OSError as error:
            raise UsageError(f"the detector {path} cannot be read: {error.strerror or error}") from error
        except (EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise UsageError(f"{path} is no difference detector: {error}") from error


class _Metric:
    """A number for a difference of two pictures: the mean square, or a trained weighing of blocks."""

    def __init__(self, weights: Logistic | None) -> None:
        self.weights = weights

    def __call__(self, difference: Array) -> float:
        if self.weights is None:
            return float(np.vdot(difference, difference) / difference.size)
        return float(self.weights.probability(block_features(difference)[None])[0])


class _LagDetector(DifferenceDetector):
    """Compares with the last frame looked at that is at least ``delay`` frames earlier."""

    def __init__(self, name: str, delay: int, metric: _Metric) -> None:
        super().__init__(name)
        self._delay = delay
        self._metric = metric
        self._seen: deque[tuple[int, SmallPicture]] = deque()

    def reset(self) -> None:
        self._seen.clear()

    def compare(self, number: int, picture: SmallPicture) -> FrameDifference:
        seen = self._seen
        while len(seen) > 1 and seen[1][0] <= number - self._delay:
            seen.popleft()
        found = FrameDifference(math.inf, None)
        if seen and seen[0][0] <= number - self._delay:
            found = FrameDifference(self._metric(residual(picture, seen[0][1])), seen[0][0])
        seen.append((number, picture))
        return found

    def state(self) -> dict[str, Array]:
        return {} if self._metric.weights is None else self._metric.weights.state()


class _ReferenceDetector(DifferenceDetector):
    """Compares with a picture without the object."""

    def __init__(self, name: str, empty: Pixels, metric: _Metric) -> None:
        super().__init__(name)
        self._pixels = empty
        self._empty = small_picture(empty)
        self._metric = metric

    def reset(self) -> None:
        """Does nothing: the picture stays."""

    def compare(self, number: int, picture: SmallPicture) -> FrameDifference:
        return FrameDifference(self._metric(residual(picture, self._empty)), None)

    def state(self) -> dict[str, Array]:
        weights = {} if self._metric.weights is None else self._metric.weights.state()
        return {"empty": self._pixels, **weights}


class _AverageDetector(DifferenceDetector):
    """Compares with a running average of the frames before, by the block that differs most.

    When most blocks change at once, whatever the gain, the exposure or the light jumped: the average starts
    anew from that frame, so that the jump is one difference and not a motion that goes on.
    """

    def __init__(self, name: str, half_life: float) -> None:
        super().__init__(name)
        self._half_life = half_life
        self._average: Array | None = None
        self._last = 0

    def reset(self) -> None:
        self._average = None

    def compare(self, number: int, picture: SmallPicture) -> FrameDifference:
        average, before, self._last = self._average, self._last, number
        if average is None:
            self._average = picture.values.copy()
            return FrameDifference(math.inf, None)
        difference = residual(picture, small_picture(average))
        errors = block_errors(difference).mean(axis=2)
        if (errors > _CHANGED).mean() > _JUMP:
            average[:] = picture.values
        else:
            share = 1 - 0.5 ** ((number - before) / self._half_life)
            average += share * (picture.values - average)
        return FrameDifference(float(errors.max()), before)

    def state(self) -> dict[str, Array]:
        return {"half_life": np.array(self._half_life)}


def make_detector(name: str, state: Mapping[str, Array] | None = None) -> DifferenceDetector:
    """The detector of that name.

    Args:
        name: ``global:D`` or ``blocked:D``, compared with D frames earlier, ``global:reference``,
            ``blocked:reference`` or ``average``.
        state: what it learnt: ``empty``, u8 [h, w, 3], of those with a reference; the weights of
            `Logistic.state` of blocked ones; ``half_life``, in frames, of the running average.

    Raises:
        ValueError: there is no such detector.
        KeyError: the state lacks something.
    """
    given = state or {}
    kind, _, against = name.partition(":")
    if name == "average":
        return _AverageDetector(name, float(given["half_life"]))
    if kind not in ("global", "blocked") or not (against == "reference" or against.isdecimal()):
        raise ValueError(f"there is no difference detector {name!r}")
    metric = _Metric(Logistic.of_state(given) if kind == "blocked" else None)
    if against == "reference":
        return _ReferenceDetector(name, given["empty"], metric)
    return _LagDetector(name, int(against), metric)
