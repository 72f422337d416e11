"""Compiled batches and the memory they run in; it decides neither what runs nor when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import openvino as ov

from cpuserve.errors import ModelLoadError
from cpuserve.serving.graph import names_of, with_batch

__all__ = ["Array", "Engine", "OpenVinoEngine", "Part", "Port", "Slot"]

Array = npt.NDArray[Any]
Part = tuple[int, int]  # (first row, number of rows), the number one of the compiled sizes


@dataclass(frozen=True)
class Port:
    """An input or output as it is served.

    Attributes:
        names: every tensor name it answers to, the one to show first.
        dtype: of the array, as NumPy knows it.
        row_shape: shape of one row, without the batch; -1 where it varies.
    """

    names: tuple[str, ...]
    dtype: np.dtype[Any]
    row_shape: tuple[int, ...]


class Slot(Protocol):
    """Input and output memory for one batch, and the requests bound to it.

    Attributes:
        inputs: one array [max_batch, ...] an input.
    """

    inputs: tuple[Array, ...]

    def outputs(self, first: int, count: int) -> tuple[Array, ...]:
        """One array [count, ...] an output, valid until the rows are written again."""


class Engine(Protocol):
    """Something that runs rows of a slot; `OpenVinoEngine`, or a fake in tests."""

    @property
    def sizes(self) -> Sequence[int]:
        """Batch sizes that are compiled, ascending, from 1."""

    @property
    def streams(self) -> int:
        """How many parts run at once without waiting for each other."""

    @property
    def inputs(self) -> Sequence[Port]:
        """The inputs."""

    @property
    def outputs(self) -> Sequence[Port]:
        """The outputs."""

    def new_slot(self) -> Any:
        """Allocate a slot."""

    def run(self, slot: Any, parts: Sequence[Part]) -> None:
        """Run the parts, several of them at the same time, and return when all are done."""

    def read_back(self) -> Mapping[str, str]:
        """The properties in force, which may differ from those asked for."""


class OpenVinoSlot:
    """A slot whose requests read and write its rows in place."""

    def __init__(
        self,
        compiled: Mapping[int, ov.CompiledModel],
        inputs: Sequence[Port],
        outputs: Sequence[Port],
        *,
        bound: bool,
    ) -> None:
        largest = max(compiled)
        self.inputs = tuple(np.zeros((largest, *port.row_shape), port.dtype) for port in inputs)
        self._bound = (
            tuple(np.zeros((largest, *port.row_shape), port.dtype) for port in outputs) if bound else ()
        )
        self.requests: dict[Part, ov.InferRequest] = {}
        for size, model in compiled.items():
            for first in range(0, largest, size):
                request = model.create_infer_request()
                for index, array in enumerate(self.inputs):
                    request.set_input_tensor(
                        index, ov.Tensor(array[first : first + size], shared_memory=True)
                    )
                for index, array in enumerate(self._bound):
                    request.set_output_tensor(
                        index, ov.Tensor(array[first : first + size], shared_memory=True)
                    )
                self.requests[first, size] = request

    def outputs(self, first: int, count: int) -> tuple[Array, ...]:
        """One array [count, ...] an output, valid until the rows are written again."""
        if self._bound:
            return tuple(array[first : first + count] for array in self._bound)
        request = self.requests[first, 1]
        return tuple(tensor.data.copy() for tensor in request.output_tensors)


class OpenVinoEngine:
    """A model compiled for fixed batch sizes, one OpenVINO thread a stream.

    Fixed sizes beat a dynamic batch: a change of shape costs about a millisecond. The sizes share one set of
    streams' worth of threads: the caller runs no more than ``streams`` parts at once.
    """

    def __init__(
        self,
        core: ov.Core,
        model: ov.Model,
        sizes: Sequence[int],
        *,
        streams: int,
        threads: int,
        properties: Mapping[str, Any],
    ) -> None:
        """Compile.

        Args:
            core: the process's OpenVINO core.
            model: the graph; its first dimension is the batch.
            sizes: batch sizes, ascending from 1, that `with_batch` accepted.
            streams: NUM_STREAMS.
            threads: INFERENCE_NUM_THREADS, over all streams.
            properties: further OpenVINO CPU properties.

        Raises:
            ModelLoadError: OpenVINO cannot compile it.
        """
        self.properties = {
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": threads,
            # the process already sits on its own cores; OpenVINO would pin every model to the same first ones
            "ENABLE_CPU_PINNING": False,
            **properties,
        }
        graphs = {size: with_batch(model, size) for size in sizes}
        static = graphs[1]
        self._bound = static is not None
        if not self._bound:
            sizes, graphs = (1,), {1: model}
        self.sizes = tuple(sizes)
        try:
            self._compiled = {
                size: core.compile_model(graph, "CPU", self.properties)
                for size, graph in graphs.items()
                if graph
            }
        except RuntimeError as error:
            raise ModelLoadError(f"OpenVINO cannot compile the model: {error}") from error
        one = self._compiled[1]
        self.streams = int(one.get_property("NUM_STREAMS"))  # the properties may say another number
        self.inputs = tuple(_port(port) for port in one.inputs)
        self.outputs = tuple(_port(port) for port in one.outputs)
        for port in self.inputs:
            if -1 in port.row_shape:
                raise ModelLoadError(
                    f"input {port.names[0]!r} has sizes {port.row_shape}; convert it with fixed ones"
                )

    def new_slot(self) -> OpenVinoSlot:
        """Allocate a slot of ``sizes[-1]`` rows."""
        return OpenVinoSlot(self._compiled, self.inputs, self.outputs, bound=self._bound)

    def run(self, slot: OpenVinoSlot, parts: Sequence[Part]) -> None:
        """Run the parts, several of them at the same time, and return when all are done."""
        if len(parts) == 1 or self.streams == 1:
            for part in parts:  # a lone stream runs in this thread: nothing to hand over
                slot.requests[part].infer(share_outputs=True)
            return
        requests = [slot.requests[part] for part in parts]
        for request in requests:
            request.start_async()
        for request in requests:
            request.wait()

    def read_back(self) -> dict[str, str]:
        """The properties in force: OpenVINO changes some of what it is told."""
        names = ("NUM_STREAMS", "INFERENCE_NUM_THREADS", "INFERENCE_PRECISION_HINT", "ENABLE_CPU_PINNING")
        values = {name: self._compiled[1].get_property(name) for name in names}
        return {
            name: value.get_type_name() if isinstance(value, ov.Type) else str(value)
            for name, value in values.items()
        }


def _port(port: ov.Output) -> Port:
    shape = port.partial_shape
    if shape.rank.is_dynamic:
        raise ModelLoadError(
            f"{names_of(port)[0]!r} has a variable number of dimensions; convert it with fixed ones"
        )
    row = tuple(shape[i].get_length() if shape[i].is_static else -1 for i in range(1, len(shape)))
    return Port(tuple(names_of(port)), port.element_type.to_dtype(), row)
