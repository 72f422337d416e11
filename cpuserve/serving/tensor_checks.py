"""Checks the tensors of a request against the inputs of a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cpuserve.errors import RequestError
from cpuserve.serving.engine import Array, Port
from cpuserve.serving.row_source import RowSource
from cpuserve.serving.value_range import check_values

__all__ = ["check_rows", "check_whole"]


def check_rows(inputs: Sequence[Port], tensors: Sequence[Array | RowSource]) -> int:
    """How many rows the tensors have, [N, ...] each.

    Raises:
        RequestError: a tensor's shape, type or values are not the input's, or the batches differ.
    """
    count = tensors[0].shape[0] if tensors[0].ndim else 0
    for port, tensor in zip(inputs, tensors, strict=True):
        _check_type(port, tensor)
        if tensor.shape != (count, *port.row_shape) or not count:
            raise _other_rows(inputs[0], count, port, tensor)
        if isinstance(tensor, np.ndarray):
            check_values(port.names[0], tensor)
    return count


def check_whole(inputs: Sequence[Port], tensors: Sequence[Array]) -> None:
    """Checks tensors that are run as they are.

    Raises:
        RequestError: a tensor's shape, type or values are not the input's.
    """
    for port, tensor in zip(inputs, tensors, strict=True):
        _check_type(port, tensor)
        fits = tensor.ndim == len(port.shape) and all(
            own in (-1, size) for size, own in zip(tensor.shape, port.shape, strict=True)
        )
        if not fits:
            raise _other_shape(port, tensor)
        check_values(port.names[0], tensor)


def _check_type(port: Port, tensor: Array | RowSource) -> None:
    if tensor.dtype != port.dtype:
        raise RequestError(f"input {port.names[0]!r} is {port.dtype.name}, not {tensor.dtype.name}")


def _other_rows(first: Port, count: int, port: Port, tensor: Array | RowSource) -> RequestError:
    """Why a tensor is no batch of ``count`` rows, as that of the first input is."""
    name = port.names[0]
    if not tensor.ndim or tensor.shape[1:] != tuple(port.row_shape):
        return _other_shape(port, tensor)
    if not tensor.shape[0]:
        return RequestError(
            f"input {name!r} has no rows: its shape is {list(tensor.shape)}; send at least one row"
        )
    return RequestError(
        f"input {name!r} has {tensor.shape[0]} rows, input {first.names[0]!r} has {count}: "
        "all inputs of a request need the same number"
    )


def _other_shape(port: Port, tensor: Array | RowSource) -> RequestError:
    return RequestError(f"input {port.names[0]!r} has shape {list(port.shape)}, not {list(tensor.shape)}")
