"""Tensors in shared memory that are copied once, into the batch: `SharedRows`."""

from __future__ import annotations

import math

from cpuserve.protocols.shared_memory import SharedMemory, SharedPlace
from cpuserve.protocols.tensor import Tensor
from cpuserve.serving.engine import Array

__all__ = ["SharedRows"]


class SharedRows:
    """The rows of an input in shared memory, see `RowSource`.

    Args:
        memory: of the server.
        tensor: the input as it was sent.
        place: of its values.

    Raises:
        RequestError: its datatype cannot be served, or the place does not have the size of its shape.
    """

    def __init__(self, memory: SharedMemory, tensor: Tensor, place: SharedPlace) -> None:
        self.shape = tensor.shape
        self.ndim = len(tensor.shape)
        self.dtype = tensor.element_type(place.byte_size)
        self._memory = memory
        self._place = place

    def write(self, target: Array, start: int) -> None:
        """Write rows into a batch, as `RowSource.write` says."""
        row_bytes = self.dtype.itemsize * math.prod(self.shape[1:])
        self._memory.read_into(target.data.cast("B"), self._place, start * row_bytes)
