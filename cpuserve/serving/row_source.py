"""Inputs that write their own rows into a batch, as those in shared memory do: `RowSource`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["RowSource", "arrays_of", "write_rows"]


class RowSource(Protocol):
    """The values of an input, [N, ...], which are nowhere in this process yet.

    Attributes:
        shape: with the rows first.
        dtype: element type.
        ndim: number of dimensions.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    ndim: int

    def write(self, target: npt.NDArray[Any], start: int) -> None:
        """Write rows into a batch.

        Args:
            target: rows of a batch, [n, ...], without gaps.
            start: number of the first of them.

        Raises:
            RequestError: the values are not there any more.
        """


def write_rows(
    targets: Sequence[npt.NDArray[Any]], tensors: Sequence[npt.NDArray[Any] | RowSource], start: int
) -> None:
    """Write rows of tensors into a batch.

    Args:
        targets: its rows, [n, ...] an input, without gaps.
        tensors: of each input.
        start: number of the first row of these.

    Raises:
        RequestError: values are not there any more.
    """
    for target, tensor in zip(targets, tensors, strict=True):
        if isinstance(tensor, np.ndarray):
            target[:] = tensor[start : start + len(target)]
        else:
            tensor.write(target, start)


def arrays_of(tensors: Sequence[npt.NDArray[Any] | RowSource]) -> list[npt.NDArray[Any]]:
    """The tensors where only arrays are taken.

    Raises:
        TypeError: one is none.
    """
    found = [tensor for tensor in tensors if isinstance(tensor, np.ndarray)]
    if len(found) != len(tensors):
        raise TypeError("this pipeline takes no sources of rows")
    return found
