"""Refuses values that OpenVINO's CPU plugin would change, as it computes 64 bit types in 32 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cpuserve.errors import RequestError

__all__ = ["check_values", "takes_any_value"]

_LEAST, _MOST = -(1 << 31), (1 << 31) - 1
_MOST_FLOAT = float(np.finfo(np.float32).max)
_COMPUTED_AS_I32 = frozenset(map(np.dtype, ("int64", "uint64", "uint32")))
_FLOAT64, _BOOL = np.dtype("float64"), np.dtype("bool")


def takes_any_value(dtype: np.dtype[Any]) -> bool:
    """Whether `check_values` has nothing to check of an element type."""
    return dtype not in _COMPUTED_AS_I32 and dtype not in (_FLOAT64, _BOOL)


def check_values(name: str, values: npt.NDArray[Any]) -> None:
    """Check the values of an input.

    Args:
        name: of the input, for the message.
        values: of any shape.

    Raises:
        RequestError: whole numbers beyond 32 bits, FP64 beyond FP32 or infinite, or truth values other than
            0 and 1.
    """
    if takes_any_value(values.dtype) or not values.size:
        return
    if values.dtype in _COMPUTED_AS_I32:
        low, high = int(values.min()), int(values.max())
        if low < _LEAST or high > _MOST:
            raise RequestError(
                f"input {name!r} has the value {low if low < _LEAST else high}: OpenVINO computes whole "
                f"numbers in 32 bits on CPUs, so they are from {_LEAST} to {_MOST}"
            )
    elif values.dtype == _FLOAT64:
        beyond = values[np.abs(values) > _MOST_FLOAT]  # OpenVINO makes the largest number of infinity
        if beyond.size:
            raise RequestError(
                f"input {name!r} has the value {beyond[0]:g}: OpenVINO computes floats in 32 bits on CPUs, "
                f"so they are from {-_MOST_FLOAT:g} to {_MOST_FLOAT:g}"
            )
    elif values.dtype == _BOOL and values.view(np.uint8).max() > 1:
        raise RequestError(f"input {name!r} has the value {values.view(np.uint8).max()}; BOOL is 0 or 1")
