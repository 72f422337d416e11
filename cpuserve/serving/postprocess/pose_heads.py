"""Reads the keypoints of one person: MoveNet and BlazePose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cpuserve.serving.engine import Array, Port
from cpuserve.serving.postprocess.classification import sigmoid
from cpuserve.serving.postprocess.keypoints import Points

__all__ = ["BlazePose", "MoveNet", "is_blazepose", "is_movenet"]

_MOVENET = (17, 3)
_BLAZEPOSE = 5  # x y z, and logits of "visible" and "present", for each point
_BLAZEPOSE_POINTS = (33, 39)  # with the six auxiliary ones
_POINTS = 33


def is_movenet(outputs: Sequence[Port]) -> bool:
    """Whether the outputs are MoveNet's: one [1, 17, 3] a row; a plain [17, 3] may be points in space."""
    return len(outputs) == 1 and outputs[0].row_shape == (1, *_MOVENET)


def is_blazepose(outputs: Sequence[Port]) -> bool:
    """Whether the outputs are BlazePose's: 195 or 165 numbers, and one for a person being there."""
    sizes = [[side for side in port.row_shape if side != 1] for port in outputs]
    return [] in sizes and any([count * _BLAZEPOSE] in sizes for count in _BLAZEPOSE_POINTS)


class MoveNet:
    """MoveNet's keypoints, y x score as shares of the input.

    Args:
        outputs: of the model.
        width: of its input, pixels.
        height: of its input, pixels.

    Raises:
        ValueError: the outputs are others.
    """

    def __init__(self, outputs: Sequence[Port], width: int, height: int) -> None:
        if len(outputs) != 1 or outputs[0].row_shape not in (_MOVENET, (1, *_MOVENET)):
            raise ValueError(f"MoveNet has one output [N, 1, 17, 3]: this has {_shown(outputs)}")
        self._size = np.array([width, height], np.float32)

    def __call__(self, outputs: Sequence[Array]) -> Points:
        """The points of one row."""
        found = outputs[0].reshape(_MOVENET).astype(np.float32)
        return Points(found[:, [1, 0]] * self._size, found[:, 2])


class BlazePose:
    """BlazePose's keypoints, x y z in pixels of the input and two logits; none where it sees no person.

    Args:
        outputs: of the model.
        confidence: that a person is there, at least.

    Raises:
        ValueError: the outputs are others.
    """

    def __init__(self, outputs: Sequence[Port], *, confidence: float) -> None:
        if not is_blazepose(outputs):
            raise ValueError(f"BlazePose has outputs [N, 195] and [N, 1]: this has {_shown(outputs)}")
        sizes = [int(np.prod(port.row_shape)) for port in outputs]
        wanted = [count * _BLAZEPOSE for count in _BLAZEPOSE_POINTS]
        self._points = next(place for place, size in enumerate(sizes) if size in wanted)
        self._there = sizes.index(1)
        self._confidence = confidence

    def __call__(self, outputs: Sequence[Array]) -> Points:
        """The points of one row."""
        found = outputs[self._points].reshape(-1, _BLAZEPOSE)[:_POINTS].astype(np.float32)
        if float(outputs[self._there].reshape(-1)[0]) < self._confidence:
            found = found[:0]
        return Points(found[:, :2], sigmoid(found[:, 3]))


def _shown(outputs: Sequence[Port]) -> str:
    return ", ".join(str(["N", *port.row_shape]).replace("'", "") for port in outputs)
