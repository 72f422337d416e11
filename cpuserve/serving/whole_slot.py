"""The memory of one request to a model without a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import openvino as ov

from cpuserve.serving.shape_check import ShapeCheck

if TYPE_CHECKING:
    from cpuserve.serving.engine import Port

__all__ = ["WholeSlot"]

Array = npt.NDArray[Any]


class WholeSlot:
    """The memory of one request to a model without a batch: its only row is the whole of each port.

    Attributes:
        inputs: one array [1, ...] an input; none where an input has variable sides.
        requests: by (number of the compiled model, 0, 1).
        ran: the request that ran last, where the outputs are.
    """

    def __init__(
        self,
        copies: Sequence[Mapping[int, ov.CompiledModel]],
        inputs: Sequence[Port],
        outputs: Sequence[Port],
        shape_check: ShapeCheck | None,
    ) -> None:
        self._shape_check = shape_check
        self._outputs = outputs
        self._inputs = inputs
        self.inputs = (
            tuple(np.zeros((1, *port.row_shape), port.dtype) for port in inputs)
            if shape_check is None
            else ()
        )
        self.ran: ov.InferRequest | None = None
        self.requests: dict[tuple[int, int, int], ov.InferRequest] = {}
        self._held: Sequence[Array] = ()
        self._copies: Sequence[Mapping[int, ov.CompiledModel]] = ()
        self.use(copies)

    def use(self, copies: Sequence[Mapping[int, ov.CompiledModel]]) -> None:
        """Run on these compiled models from now on, if it does not yet."""
        if copies is self._copies:
            return
        self._copies = copies
        self.requests = {
            (copy, 0, 1): compiled[1].create_infer_request() for copy, compiled in enumerate(copies)
        }
        fixed = [array.reshape(port.shape) for array, port in zip(self.inputs, self._inputs, strict=False)]
        self._put(fixed or self._held)

    def _put(self, arrays: Sequence[Array]) -> None:
        self._held = arrays  # a request does not keep the memory it reads alive
        for request in self.requests.values():
            for index, array in enumerate(arrays):
                request.set_input_tensor(index, ov.Tensor(array, shared_memory=True))

    def write(self, arrays: Sequence[Array]) -> None:
        """Take the inputs of a request, each in the shape that clients send.

        Raises:
            RequestError: the graph cannot compute with the sizes it leaves to clients.
        """
        if self._shape_check is None:
            for target, array in zip(self.inputs, arrays, strict=True):
                target[:] = array
        else:
            self._shape_check.check([array.shape for array in arrays])
            self._put([np.array(array, order="C") for array in arrays])  # what was sent may be read-only

    def whole_outputs(self) -> list[Array]:
        """One array an output, in its own shape."""
        return [array.copy() for array in self._results()]

    def outputs(self, _first: int, _count: int) -> tuple[Array, ...]:
        """One array [1, ...] an output, valid until the request runs again."""
        return tuple(
            array if port.outer else array[None]
            for port, array in zip(self._outputs, self._results(), strict=True)
        )

    def _results(self) -> list[Array]:
        return [] if self.ran is None else [tensor.data for tensor in self.ran.output_tensors]
