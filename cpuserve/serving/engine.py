"""Compiles a model for fixed batch sizes and runs batches in memory that is allocated once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import openvino as ov

from cpuserve.errors import ModelLoadError
from cpuserve.serving.graph import names_of, with_batch

__all__ = ["Array", "Engine", "OpenVinoEngine", "Part", "Port", "Slot"]

_WARM_ROUNDS = 2

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
        inputs: one array [rows, ...] an input.
    """

    inputs: tuple[Array, ...]

    def outputs(self, first: int, count: int) -> tuple[Array, ...]:
        """One array [count, ...] an output, valid until the rows are written again."""


class Engine(Protocol):
    """Runs rows of a slot: `OpenVinoEngine`, or a fake in tests."""

    @property
    def sizes(self) -> Sequence[int]:
        """Batch sizes that are compiled, ascending, from 1."""

    @property
    def rows(self) -> int:
        """Rows of a slot: the largest batch, and at least one a stream."""

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
    """A slot whose requests read and write its rows in place.

    Attributes:
        requests: by (number of the compiled model, first row, rows).
        ran: those that ran last, by their first row, where the outputs are theirs.
    """

    def __init__(
        self,
        copies: Sequence[Mapping[int, ov.CompiledModel]],
        inputs: Sequence[Port],
        outputs: Sequence[Port],
        *,
        rows: int,
        bound: bool,
    ) -> None:
        self.inputs = tuple(np.zeros((rows, *port.row_shape), port.dtype) for port in inputs)
        self._bound = (
            tuple(np.zeros((rows, *port.row_shape), port.dtype) for port in outputs) if bound else ()
        )
        self.ran: dict[int, ov.InferRequest] = {}
        self.requests = {
            (copy, first, size): self._request(model, first, size)
            for copy, compiled in enumerate(copies)
            for size, model in compiled.items()
            for first in range(0, rows - size + 1, size)
        }

    def _request(self, model: ov.CompiledModel, first: int, size: int) -> ov.InferRequest:
        request = model.create_infer_request()
        for index, array in enumerate(self.inputs):
            request.set_input_tensor(index, ov.Tensor(array[first : first + size], shared_memory=True))
        for index, array in enumerate(self._bound):
            request.set_output_tensor(index, ov.Tensor(array[first : first + size], shared_memory=True))
        return request

    def outputs(self, first: int, count: int) -> tuple[Array, ...]:
        """One array [count, ...] an output, valid until the rows are written again."""
        if self._bound:
            return tuple(array[first : first + count] for array in self._bound)
        return tuple(tensor.data.copy() for tensor in self.ran[first].output_tensors)


class OpenVinoEngine:
    """A model compiled for fixed batch sizes, one OpenVINO thread a stream.

    Fixed sizes beat a dynamic batch: a change of shape costs about a millisecond. The sizes share one set of
    streams' worth of threads: the caller should run no more than ``streams`` parts at once.

    With weights of its own each stream is a compiled model of one stream, which OpenVINO runs in the thread
    that calls. Streams that share weights have threads beside those that call, and leave more of the cores
    idle while requests wait (docs/results/tails.json).

    Attributes:
        sizes: batch sizes, ascending from 1.
        rows: of a slot.
        streams: parts that run at once.
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
        own_weights: bool = False,
    ) -> None:
        """Compile.

        Args:
            core: the process's OpenVINO core.
            model: the graph; its first dimension is the batch.
            sizes: batch sizes, ascending from 1, that `with_batch` accepted.
            streams: NUM_STREAMS.
            threads: INFERENCE_NUM_THREADS, over all streams.
            properties: further OpenVINO CPU properties; they win over ``streams`` and ``threads``.
            own_weights: give each stream its own compiled model and weights.

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
        copies = int(self.properties["NUM_STREAMS"]) if own_weights else 1
        for name in ("NUM_STREAMS", "INFERENCE_NUM_THREADS"):
            self.properties[name] //= copies
        graphs = {size: with_batch(model, size) for size in sizes}
        static = graphs[1]
        self._bound = static is not None
        if not self._bound:
            sizes, graphs = (1,), {1: model}
        self.sizes = tuple(sizes)
        try:
            self._copies = [
                {
                    size: core.compile_model(graph, "CPU", self.properties)
                    for size, graph in graphs.items()
                    if graph
                }
                for _ in range(copies)
            ]
        except RuntimeError as error:
            raise ModelLoadError(f"OpenVINO cannot compile the model: {error}") from error
        one = self._copies[0][1]
        self.streams = copies * int(one.get_property("NUM_STREAMS"))  # OpenVINO may make it another number
        self.rows = max(self.sizes[-1], self.streams) if self._bound else 1
        self._idle = [number for number in range(copies) for _ in range(self.streams // copies)]
        self.inputs = tuple(_port(port) for port in one.inputs)
        self.outputs = tuple(_port(port) for port in one.outputs)
        for port in self.inputs:
            if -1 in port.row_shape:
                raise ModelLoadError(
                    f"input {port.names[0]!r} has sizes {port.row_shape}; convert it with fixed ones"
                )

    def new_slot(self) -> OpenVinoSlot:
        """Allocate a slot of ``rows`` rows."""
        return OpenVinoSlot(self._copies, self.inputs, self.outputs, rows=self.rows, bound=self._bound)

    def warm(self) -> None:
        """Run every compiled size on every stream, so that no request is the first of its kind."""
        slots = [self.new_slot() for _ in self._idle]
        for size in self.sizes:
            for _ in range(_WARM_ROUNDS):
                _together(
                    [slot.requests[copy, 0, size] for copy, slot in zip(self._idle, slots, strict=True)]
                )

    def run(self, slot: OpenVinoSlot, parts: Sequence[Part]) -> None:
        """Run the parts, several of them at the same time, and return when all are done."""
        taken = self._take(min(len(parts), self.streams))
        copies = taken or [0]  # more callers than streams: OpenVINO lets one wait for the other
        try:
            requests = [slot.requests[copies[place % len(copies)], *part] for place, part in enumerate(parts)]
            if len(copies) == 1:
                for request in requests:  # a lone stream runs in this thread: nothing to hand over
                    request.infer(share_outputs=True)
            else:
                _together(requests)
        finally:
            self._idle.extend(taken)
        if not self._bound:
            slot.ran.update({first: request for (first, _), request in zip(parts, requests, strict=True)})

    def _take(self, wanted: int) -> list[int]:
        """The compiled models of as many idle streams as there are, at most ``wanted``."""
        taken: list[int] = []
        with suppress(IndexError):  # none is left
            while len(taken) < wanted:
                taken.append(self._idle.pop())
        return taken

    def read_back(self) -> dict[str, str]:
        """The properties in force: OpenVINO may change those it was given.

        Streams and threads are those of all compiled models; with several, ``COMPILED_MODELS`` is how many.
        """
        names = ("NUM_STREAMS", "INFERENCE_NUM_THREADS", "INFERENCE_PRECISION_HINT", "ENABLE_CPU_PINNING")
        values = {name: self._copies[0][1].get_property(name) for name in names}
        found = {
            name: value.get_type_name() if isinstance(value, ov.Type) else str(value)
            for name, value in values.items()
        }
        copies = len(self._copies)
        if copies > 1:
            found |= {name: str(copies * int(found[name])) for name in names[:2]}
            found["COMPILED_MODELS"] = str(copies)
        return found


def _together(requests: Sequence[ov.InferRequest]) -> None:
    """Run them at the same time, the last in this thread if it has a stream to itself."""
    started = 0
    try:
        for request in requests[:-1]:
            request.start_async()
            started += 1
        requests[-1].infer(share_outputs=True)
    finally:  # their rows must not be written before they have ended
        _wait_for(requests[:started])


def _wait_for(requests: Sequence[ov.InferRequest]) -> None:
    """Wait until all have ended, then raise what the first of them that failed raised."""
    for place, request in enumerate(requests):
        try:
            request.wait()
        except BaseException:
            _wait_for(requests[place + 1 :])
            raise


def _port(port: ov.Output) -> Port:
    shape = port.partial_shape
    if shape.rank.is_dynamic:
        raise ModelLoadError(
            f"{names_of(port)[0]!r} has a variable number of dimensions; convert it with fixed ones"
        )
    row = tuple(shape[i].get_length() if shape[i].is_static else -1 for i in range(1, len(shape)))
    return Port(tuple(names_of(port)), port.element_type.to_dtype(), row)
