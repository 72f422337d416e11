"""Answers infer requests of the Open Inference Protocol, whatever transport and form they came in."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cpuserve.errors import RequestError
from cpuserve.protocols.call import Call, check_pictures
from cpuserve.protocols.scaled_frames import frame_outputs, is_of_frames
from cpuserve.protocols.shared_memory import SharedMemory, SharedPlace
from cpuserve.protocols.shared_rows import SharedRows
from cpuserve.protocols.tensor import ANY_VALUE, Tensor, datatype_of
from cpuserve.protocols.v2_body import InferBody, OutputWanted, classified, raw_bytes
from cpuserve.serving.engine import Array, Port
from cpuserve.serving.pipeline import Pipeline
from cpuserve.serving.request import Request
from cpuserve.serving.row_source import RowSource

__all__ = ["RepeatedInference", "SentOutput", "infer_outputs"]

_MOST_CLASSES = 1_000_000
_MOST_CLASS_TEXTS = 100_000  # each is made in Python

SentOutput = tuple[str, Array, bool | SharedPlace]
"""Name and values of an output, and whether it is sent as binary data, or where it is in shared memory."""


def infer_outputs(
    pipeline: Pipeline,
    asked: InferBody,
    request: Request,
    call: Call,
    shared_memory: SharedMemory | None = None,
) -> list[SentOutput]:
    """Answer an infer request, whatever form it came in.

    Args:
        pipeline: of the model.
        asked: the request.
        request: its deadline and stage times.
        call: that brought it.
        shared_memory: of the server; None where there is none.

    Returns:
        Each output that is asked for.

    Raises:
        RequestError: the tensors or outputs are not the model's, or shared memory cannot be used.
    """
    limits = call.limits
    if shared_memory is None and (
        any(one.place for one in asked.inputs) or any(one.place for one in asked.outputs)
    ):
        raise RequestError("shared memory is not used by this server (setting shared_memory_prefix)")
    if is_of_frames(asked.parameters):
        inputs = [_with_values(tensor, shared_memory, call) for tensor in asked.inputs]
        found = frame_outputs(pipeline, inputs, asked, request, limits)
        outputs = [(place, output) for place, (output, _) in enumerate(found)]
        return _sent(pipeline, [values for _, values in found], outputs, shared_memory)
    wanted = _wanted(pipeline, asked)  # before anything is computed for it
    resolved = [
        _shared_rows(pipeline, one, shared_memory, call) or _with_values(one, shared_memory, call)
        for one in asked.inputs
    ]
    first = resolved[0]
    if len(resolved) == 1 and first.datatype == "BYTES" and isinstance(first, Tensor):
        results = _infer_pictures(pipeline, first, request, limits.max_pictures)
    else:
        results = pipeline.infer(_tensors(pipeline, resolved), request)
    return _sent(pipeline, results, wanted, shared_memory)


class _Known(NamedTuple):
    """What one pipeline is asked for.

    Attributes:
        pipeline: which may be removed meanwhile.
        sources: of its inputs.
        rows: of these.
        wanted: outputs and their places among those of the model.
    """

    pipeline: weakref.ref[Pipeline]
    sources: Sequence[SharedRows]
    rows: int
    wanted: Sequence[tuple[int, OutputWanted]]


class RepeatedInference:
    """Answers a request that comes again and again, as those of clients with shared memory do.

    What it asks of a pipeline is found out once; only the values are new. Any thread may call it.

    Args:
        asked: makes the request, which may raise an error.
        shared_memory: of the server; None where there is none.
    """

    def __init__(self, asked: Callable[[], InferBody], shared_memory: SharedMemory | None) -> None:
        self._asked = asked
        self._shared_memory = shared_memory
        self._known: _Known | None = None

    def outputs(self, pipeline: Pipeline, request: Request, call: Call) -> list[SentOutput]:
        """As `infer_outputs`."""
        known = self._known
        if known is not None and known.pipeline() is pipeline:
            results = pipeline.infer_rows(known.sources, known.rows, request)
            return _sent(pipeline, results, known.wanted, self._shared_memory)
        asked = self._asked()
        found = infer_outputs(pipeline, asked, request, call, self._shared_memory)
        self._known = self._knowledge(pipeline, asked)
        return found

    def _knowledge(self, pipeline: Pipeline, asked: InferBody) -> _Known | None:
        """Of a request that was answered; None where its values have to be looked at. Nothing is read."""
        if self._shared_memory is None or is_of_frames(asked.parameters):
            return None
        places = [(one, _source_place(pipeline, one)) for one in asked.inputs]
        rows = [SharedRows(one, place, self._shared_memory) for one, place in places if place is not None]
        if len(rows) != len(places):
            return None
        sources = [one for one in _tensors(pipeline, rows) if isinstance(one, SharedRows)]  # all, in order
        return _Known(weakref.ref(pipeline), sources, sources[0].shape[0], _wanted(pipeline, asked))


def _with_values(tensor: Tensor, shared_memory: SharedMemory | None, call: Call) -> Tensor:
    """An input with its values, out of shared memory where they are there."""
    if tensor.place is None or shared_memory is None:
        return tensor
    data = shared_memory.read(tensor.place, call.limits.max_body_bytes, call.take_memory)
    return Tensor(tensor.name, tensor.datatype, tensor.shape, data)


def _shared_rows(
    pipeline: Pipeline, tensor: Tensor, shared_memory: SharedMemory | None, call: Call
) -> SharedRows | None:
    """What copies an input into the batch; None where its values are not in shared memory, or looked at."""
    place = _source_place(pipeline, tensor)
    if place is None or shared_memory is None:
        return None
    shared_memory.check(place, call.limits.max_body_bytes)
    return SharedRows(tensor, place, shared_memory)


def _source_place(pipeline: Pipeline, tensor: Tensor) -> SharedPlace | None:
    """Where the values of an input are, if they are in shared memory and nobody looks at them."""
    return tensor.place if pipeline.takes_sources and tensor.datatype in ANY_VALUE else None


def _infer_pictures(pipeline: Pipeline, sent: Tensor, request: Request, max_pictures: int) -> list[Array]:
    _find(pipeline.inputs, sent.name, "input")
    if not sent.is_list:
        raise RequestError(f"input {sent.name!r}: pictures have shape [N] or [N, 1], not {list(sent.shape)}")
    check_pictures(sent.shape[0], max_pictures)
    return pipeline.infer_pictures(sent.elements(), request)


def _tensors(pipeline: Pipeline, sent: Sequence[Tensor | SharedRows]) -> list[Array | RowSource]:
    """The tensors in the order of the model's inputs."""
    inputs = pipeline.inputs
    tensors: list[Array | RowSource | None] = [None] * len(inputs)
    for tensor in sent:
        index = _find(inputs, tensor.name, "input")
        if tensors[index] is not None:
            raise RequestError(f"input {tensor.name!r} is sent twice")
        tensors[index] = tensor.array() if isinstance(tensor, Tensor) else tensor
        wanted = datatype_of(inputs[index].dtype)
        if tensor.datatype != wanted:
            raise RequestError(f"input {tensor.name!r} is {wanted}, not {tensor.datatype}")
    found = [tensor for tensor in tensors if tensor is not None]
    if len(found) != len(tensors):
        missing = [port.names[0] for port, tensor in zip(inputs, tensors, strict=True) if tensor is None]
        raise RequestError(f"model {pipeline.name} needs the inputs {', '.join(missing)} too")
    return found


def _sent(
    pipeline: Pipeline,
    results: Sequence[Array],
    wanted: Sequence[tuple[int, OutputWanted]],
    shared_memory: SharedMemory | None,
) -> list[SentOutput]:
    """The outputs that are asked for; those that go into shared memory are written there."""
    found: list[SentOutput] = []
    for index, output in wanted:
        values, sent = results[index], output.binary
        if output.classification:
            values = _as_classes(values, output, pipeline.card.labels)
        if output.place is not None and shared_memory is not None:
            found.append((output.name, values, shared_memory.write(output.place, raw_bytes(values))))
        else:
            found.append((output.name, values, sent))
    return found


def _as_classes(result: Array, output: OutputWanted, labels: Sequence[str]) -> Array:
    """Texts of the best classes of each row."""
    if not result.size or not result.ndim:
        raise RequestError(f"output {output.name!r} of shape {list(result.shape)} has no rows of classes")
    if result[0].size > _MOST_CLASSES:
        raise RequestError(
            f"output {output.name!r} has {result[0].size} values a row; classification takes {_MOST_CLASSES}"
        )
    texts = result.shape[0] * min(output.classification, result[0].size)
    if texts > _MOST_CLASS_TEXTS:
        raise RequestError(
            f"classification {output.classification} of output {output.name!r} makes {texts} texts; "
            f"there are at most {_MOST_CLASS_TEXTS}: ask for fewer classes or send fewer rows"
        )
    return classified(result, output.classification, labels)


def _wanted(pipeline: Pipeline, asked: InferBody) -> list[tuple[int, OutputWanted]]:
    if not asked.outputs:
        return [
            (index, OutputWanted(port.names[0], asked.binary)) for index, port in enumerate(pipeline.outputs)
        ]
    return [(_find(pipeline.outputs, output.name, "output"), output) for output in asked.outputs]


def _find(ports: Sequence[Port], name: str, what: str) -> int:
    for index, port in enumerate(ports):
        if name in port.names:
            return index
    there = ", ".join(port.names[0] for port in ports)
    raise RequestError(f"there is no {what} {name!r}; the model's are: {there}")
