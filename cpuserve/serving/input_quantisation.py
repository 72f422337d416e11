"""Finds how the numbers of a model's input stand for real ones, where its graph says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov

__all__ = ["InputQuantisation", "input_quantisation", "scales_pixels"]

_Array = npt.NDArray[Any]
_BETWEEN = frozenset(("Convert", "Transpose", "Reshape", "Squeeze", "Unsqueeze"))
_DEEPEST = 6
_PIXELS = 10.0  # no number that is less is a mean or scale of 0 to 255


@dataclass(frozen=True)
class InputQuantisation:
    """What the numbers of a quantised input mean: ``real = (number - zero_point) * scale``.

    Attributes:
        scale: one, or one a channel.
        zero_point: likewise; 0 for an input of real numbers.
        low: the smallest number that the input or its quantisation holds.
        high: the largest.
    """

    scale: tuple[float, ...]
    zero_point: tuple[float, ...]
    low: float
    high: float

    @property
    def real_range(self) -> tuple[float, float]:
        """The smallest and the largest real number of any channel."""
        ends = [
            (end - zero) * scale
            for scale, zero in zip(self.scale, self.zero_point, strict=True)
            for end in (self.low, self.high)
        ]
        return min(ends), max(ends)


def input_quantisation(port: ov.Output) -> InputQuantisation | None:
    """How the numbers of an input stand for real ones; None where the graph does not say.

    Importers of quantised models put a FakeQuantize behind the input, or subtract a zero point and multiply
    by a scale. Of an input of real numbers a FakeQuantize says the range.
    """
    kind = port.get_element_type()
    if kind.is_real():
        low, high = 0.0, 0.0
    elif kind.is_integral_number():
        limits = np.iinfo(kind.to_dtype())
        low, high = float(limits.min), float(limits.max)
    else:
        return None
    for node in _readers(port, 0):
        if node.get_type_name() == "FakeQuantize":
            found = _of_fake_quantize(node, real=kind.is_real())
        elif kind.is_real():
            found = None
        else:
            found = _of_dequantise(node, low, high)
        if found is not None:
            return found
    return None


def scales_pixels(port: ov.Output) -> bool:
    """Whether the graph divides or shifts its input first, by numbers that only pixels of 0 to 255 need."""
    for node in _readers(port, 0):
        kind = node.get_type_name()
        values = [found for value in node.input_values() if (found := _constant(value)) is not None]
        if not values or not values[0].size:
            continue
        largest = float(np.abs(values[0]).max())
        if kind in ("Subtract", "Add", "Divide") and largest >= _PIXELS:
            return True
        if kind == "Multiply" and 0 < largest <= 1 / _PIXELS:
            return True
    return False


def _readers(port: ov.Output, depth: int) -> Iterator[ov.Node]:
    """The operations that compute with the numbers of a tensor, beyond those that only move them."""
    for target in port.get_target_inputs():
        node = target.get_node()
        if node.get_type_name() in _BETWEEN and depth < _DEEPEST:
            yield from _readers(node.output(0), depth + 1)
        else:
            yield node


def _of_fake_quantize(node: ov.Node, *, real: bool) -> InputQuantisation | None:
    limits = [_constant(value) for value in node.input_values()[1:]]
    if any(limit is None for limit in limits):
        return None
    low, high, lowest, highest = (limit.reshape(-1) for limit in limits if limit is not None)
    if real:  # what the clamp lets through
        return InputQuantisation((1.0,), (0.0,), float(low.min()), float(high.max()))
    if any(limit.size != 1 for limit in (low, high)) or high[0] == low[0]:
        return None
    scale = (highest - lowest) / (high[0] - low[0])
    if np.any(scale == 0):
        return None
    zero = low[0] - lowest / scale
    return InputQuantisation(_numbers(scale), _numbers(zero), float(low[0]), float(high[0]))


def _of_dequantise(node: ov.Node, low: float, high: float) -> InputQuantisation | None:
    zero: _Array = np.zeros(1)
    if node.get_type_name() == "Subtract":
        subtracted = _constant(node.input_value(1))
        readers = [target.get_node() for target in node.output(0).get_target_inputs()]
        if subtracted is None or not readers:
            return None
        zero, node = subtracted.reshape(-1), readers[0]
    if node.get_type_name() != "Multiply":
        return None
    factor = next((found for value in node.input_values() if (found := _constant(value)) is not None), None)
    if factor is None or np.any(factor == 0):
        return None
    scale = factor.reshape(-1)
    size = max(scale.size, zero.size)
    if size > 1 and (scale.size not in (1, size) or zero.size not in (1, size)):
        return None
    return InputQuantisation(
        _numbers(np.broadcast_to(scale, (size,))), _numbers(np.broadcast_to(zero, (size,))), low, high
    )


def _constant(value: ov.Output) -> _Array | None:
    """The numbers of a constant, also behind a conversion or a reshape."""
    node = value.get_node()
    for _ in range(_DEEPEST):
        if node.get_type_name() == "Constant":
            return np.asarray(node.data, np.float64)
        if node.get_type_name() not in _BETWEEN:
            return None
        node = node.input_value(0).get_node()
    return None


def _numbers(array: _Array) -> tuple[float, ...]:
    return tuple(float(number) for number in array)
