"""Compiles a model for fixed batch sizes and runs batches in memory that is allocated once."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import openvino as ov

from cpuserve.errors import ModelLoadError, last_line
from cpuserve.serving.graph import names_of, unique_names, with_batch
from cpuserve.serving.shape_check import ShapeCheck
from cpuserve.serving.whole_slot import WholeSlot

__all__ = ["Array", "Engine", "OpenVinoEngine", "Part", "Port", "Slot", "port_of"]

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
        outer: the sizes in front of it: (-1,) is a batch. A port without one has (1,) where its own first
            side is 1, which stands for one row, else none: its whole shape is that of a row.
    """

    names: tuple[str, ...]
    dtype: np.dtype[Any]
    row_shape: tuple[int, ...]
    outer: tuple[int, ...] = (-1,)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that clients see; -1 where it varies."""
        return (*self.outer, *self.row_shape)


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

    Args:
        copies: compiled models by size, of each copy.
        inputs: of the model.
        outputs: of the model.
        rows: of the slot.
        passed: see `_passed`.

    Attributes:
        inputs: one array [rows, ...] an input.
        requests: by (number of the compiled model, first row, rows).
    """

    def __init__(
        self,
        copies: Sequence[Mapping[int, ov.CompiledModel]],
        inputs: Sequence[Port],
        outputs: Sequence[Port],
        rows: int,
        passed: Mapping[int, int],
    ) -> None:
        self.inputs = tuple(np.zeros((rows, *port.row_shape), port.dtype) for port in inputs)
        self._outputs = tuple(
            self.inputs[passed[index]] if index in passed else np.zeros((rows, *port.row_shape), port.dtype)
            for index, port in enumerate(outputs)
        )
        self._passed = passed
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
        for index, array in enumerate(self._outputs):
            if index in self._passed:  # OpenVINO would fill both with zeros
                continue
            request.set_output_tensor(index, ov.Tensor(array[first : first + size], shared_memory=True))
        return request

    def outputs(self, first: int, count: int) -> tuple[Array, ...]:
        """One array [count, ...] an output, valid until the rows are written again."""
        return tuple([array[first : first + count] for array in self._outputs])


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
        batched: whether rows of several requests may run together; else each request runs alone.
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
            sizes: batch sizes, ascending from 1, that `with_batch` accepted; none for a model without a
                batch, which is compiled as it is.
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
        for port in (*model.inputs, *model.outputs):
            if port.partial_shape.rank.is_dynamic:
                raise ModelLoadError(
                    f"{names_of(port)[0]!r} has a variable number of dimensions; the setting `shape` fixes "
                    "an input's, and `cpuserve convert --input` too"
                )
        graphs = {size: with_batch(model, size) for size in sizes}
        self.batched = graphs.get(1) is not None
        if not self.batched:
            graphs = {1: model}
        self.sizes = tuple(graphs)
        # A graph of variable sizes that has failed crashes when it fails again: it is compiled anew, and for
        # that no other stream may be on it.
        may_fail = not self.batched and model.is_dynamic()
        if may_fail:
            self.properties["ENABLE_CPU_PINNING"] = False  # it would put all streams on the same CPUs
        copies = int(self.properties["NUM_STREAMS"]) if own_weights or may_fail else 1
        for name in ("NUM_STREAMS", "INFERENCE_NUM_THREADS"):
            self.properties[name] = max(1, int(self.properties[name]) // copies)
        compiled = partial(self._compiled, core, graphs)
        self._copies = [compiled() for _ in range(copies)]
        self._anew = compiled if may_fail else None
        self._replacing = threading.Lock()
        one = self._copies[0][1]
        self.streams = copies * int(one.get_property("NUM_STREAMS"))  # OpenVINO may make it another number
        self.rows = max(self.sizes[-1], self.streams) if self.batched else 1
        self._idle = [number for number in range(copies) for _ in range(self.streams // copies)]
        self.inputs = _ports(model.inputs, one.inputs, batched=self.batched)
        variable = any(-1 in port.row_shape for port in self.inputs)
        self._shape_check = ShapeCheck(model) if variable else None
        self.outputs = _ports(model.outputs, one.outputs, batched=self.batched)
        self._passed = _passed(model)

    def _compiled(self, core: ov.Core, graphs: Mapping[int, ov.Model | None]) -> dict[int, ov.CompiledModel]:
        try:
            return {
                size: core.compile_model(graph, "CPU", self.properties)
                for size, graph in graphs.items()
                if graph
            }
        except RuntimeError as error:
            raise ModelLoadError(f"OpenVINO cannot compile the model: {last_line(error)}") from error

    def new_slot(self) -> OpenVinoSlot | WholeSlot:
        """Allocate a slot of ``rows`` rows."""
        if not self.batched:
            return WholeSlot(self._copies, self.inputs, self.outputs, self._shape_check)
        return OpenVinoSlot(self._copies, self.inputs, self.outputs, self.rows, self._passed)

    def warm(self) -> None:
        """Run every compiled size on every stream, so that no request is the first of its kind.

        A model with variable sides is not warmed: nobody knows which sizes come.
        """
        if self._shape_check is not None:
            return
        slots = [self.new_slot() for _ in self._idle]
        for size in self.sizes:
            for _ in range(_WARM_ROUNDS):
                _together(
                    [slot.requests[copy, 0, size] for copy, slot in zip(self._idle, slots, strict=True)]
                )

    def run(self, slot: OpenVinoSlot | WholeSlot, parts: Sequence[Part]) -> None:
        """Run the parts, several of them at the same time, and return when all are done."""
        taken = self._take(min(len(parts), self.streams))
        copies = taken or [0]  # more callers than streams: OpenVINO lets one wait for the other
        try:
            if isinstance(slot, WholeSlot):
                self._run_alone(slot, copies[0])
            elif len(copies) == 1:
                for first, size in parts:  # a lone stream runs in this thread: nothing to hand over
                    slot.requests[copies[0], first, size].infer(share_outputs=True)
            else:
                places = enumerate(parts)
                _together([slot.requests[copies[place % len(copies)], *part] for place, part in places])
        finally:
            self._idle.extend(taken)

    def _run_alone(self, slot: WholeSlot, copy: int) -> None:
        slot.use(self._copies)
        request = slot.requests[copy, 0, 1]
        if self._anew is None:
            request.infer(share_outputs=True)
        else:
            request.start_async()  # `infer` of a lone stream loses what the graph raises
            try:
                request.wait()
            except RuntimeError:
                with self._replacing:
                    copies = [*self._copies]
                    copies[copy] = self._anew()
                    self._copies = copies
                raise
        slot.ran = request

    def _take(self, wanted: int) -> list[int]:
        """The compiled models of as many idle streams as there are, at most ``wanted``."""
        taken: list[int] = []
        try:
            while len(taken) < wanted:
                taken.append(self._idle.pop())
        except IndexError:  # none is left
            return taken
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


def _passed(model: ov.Model) -> dict[int, int]:
    """Outputs that are an input as it came, each with the number of that input."""
    sources = ((index, port.get_node().input_value(0).get_node()) for index, port in enumerate(model.outputs))
    return {
        index: model.get_parameter_index(source)
        for index, source in sources
        if source.get_type_name() == "Parameter"
    }


def _ports(read: Sequence[ov.Output], compiled: Sequence[ov.Output], *, batched: bool) -> tuple[Port, ...]:
    """The ports as they are served: the names as the model was read, then those the compiler added."""
    names = [
        tuple(dict.fromkeys([*own, *names_of(port)]))
        for own, port in zip(unique_names(read), compiled, strict=True)
    ]
    return tuple(port_of(*both, batched=batched) for both in zip(names, compiled, strict=True))


def port_of(names: tuple[str, ...], port: ov.Output, *, batched: bool) -> Port:
    """An input or output of a graph as it is served.

    Args:
        names: every name it answers to.
        port: it.
        batched: whether its first side is the batch.
    """
    shape = port.partial_shape
    sizes = tuple(side.get_length() if side.is_static else -1 for side in shape)
    dtype = port.element_type.to_dtype()
    if batched:
        return Port(names, dtype, sizes[1:])
    outer = (1,) if sizes[:1] == (1,) else ()
    return Port(names, dtype, sizes[len(outer) :], outer)
