"""Inputs in a client's shared memory, copied once, straight into the batch: `SharedRows`."""

from __future__ import annotations

import math

from cpuserve.protocols.shared_memory import SharedMemory, SharedPlace
from cpuserve.protocols.tensor import Tensor
from cpuserve.serving.engine import Array

__all__ = ["SharedRows"]


class SharedRows:
    """The rows of an input in shared memory, see `RowSource`.

    Args:
        tensor: the input as it was sent.
        place: where its values are.
        shared_memory: of the server.

    Attributes:
        name: of the input.
        datatype: the protocol's name of the element type.
        shape: with the rows first.
        dtype: element type.
        ndim: number of dimensions.

    Raises:
        RequestError: its datatype cannot be served, or the place does not have the size of its shape.
    """

    def __init__(self, tensor: Tensor, place: SharedPlace, shared_memory: SharedMemory) -> None:
        self.name, self.datatype, self.shape = tensor.name, tensor.datatype, tensor.shape
        self.ndim = len(tensor.shape)
        self.dtype = tensor.element_type(place.byte_size)
        self._row_bytes = self.dtype.itemsize * math.prod(tensor.shape[1:])
        self._place = place
        self._shared_memory = shared_memory

    def write(self, target: Array, start: int) -> None:
        """Write rows into a batch, as `RowSource.write` says."""
        self._shared_memory.copy(self._place, target, start * self._row_bytes)
