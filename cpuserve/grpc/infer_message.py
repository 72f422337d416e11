"""Reads ModelInferRequest and writes ModelInferResponse; large values are not copied through protobuf."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cpuserve.errors import RequestError, TooManyElements
from cpuserve.grpc.messages import message_class, parse
from cpuserve.grpc.wire import BYTES, wire_fields
from cpuserve.protocols.shared_memory import SharedPlace
from cpuserve.protocols.tensor import MOST_DIMENSIONS, Tensor, datatype_of
from cpuserve.protocols.v2_body import (
    MOST_ID,
    MOST_NAME,
    MOST_TENSORS,
    InferBody,
    OutputWanted,
    raw_bytes,
    shared_place,
)
from cpuserve.serving.engine import Array

__all__ = ["InferMessage", "infer_response"]

_Request = message_class("inference.ModelInferRequest")
_Input = message_class("inference.ModelInferRequest.InferInputTensor")
_Contents = message_class("inference.InferTensorContents")
_Response = message_class("inference.ModelInferResponse")

_INPUTS, _RAW = 5, 7  # fields of the request
_CONTENTS = 5  # of an input
_FP32, _FP64, _ELEMENTS = 6, 7, 8  # of its contents
_MOST_STRUCTURE = 1 << 20  # bytes of a request beside the values of its tensors
_TYPED = {
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "BOOL": "bool_contents",
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
}
_AS_SENT = {"FP32": _FP32, "FP64": _FP64, "BYTES": _ELEMENTS}  # contents whose bytes are the values
_AS_SENT_NAMES = {"FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents"}


@dataclass(frozen=True)
class InferMessage:
    """A ModelInferRequest whose values are still the bytes that came.

    Attributes:
        head: the request without its inputs.
        inputs: each without its values, and the bytes of its ``contents``, or None.
        raw: the raw_input_contents.
    """

    head: Any
    inputs: Sequence[tuple[Any, memoryview | None]]
    raw: Sequence[memoryview]

    @classmethod
    def read(cls, message: bytes) -> InferMessage:
        """Read a request as it was sent.

        Raises:
            RequestError: it is no ModelInferRequest, or holds too much beside the values of its tensors.
        """
        data = memoryview(message)
        rest, entries, raw = bytearray(), [], []
        for field in wire_fields(data):
            if field.wire == BYTES and field.number == _RAW:
                raw.append(data[field.value : field.end])
            elif field.wire == BYTES and field.number == _INPUTS:
                entries.append(data[field.value : field.end])
            else:
                rest += data[field.start : field.end]
                _check_structure(len(rest))
        for count, what in ((len(entries), "inputs"), (len(raw), "raw_input_contents")):
            if count > MOST_TENSORS:
                raise RequestError(f"{count} {what}; a request may have at most {MOST_TENSORS} {what}")
        left = _MOST_STRUCTURE - len(rest)
        inputs = []
        for entry in entries:
            described, contents = _split_input(entry)
            left -= len(described)
            _check_structure(_MOST_STRUCTURE - left)
            inputs.append((parse(_Input, described), contents))
        return cls(parse(_Request, bytes(rest)), inputs, raw)

    def parameters(self) -> dict[str, Any]:
        """The parameters of the request."""
        return parameters_of(self.head)

    def body(self, most_numbers: int) -> InferBody:
        """The request as V2's handlers take it; outputs are sent as raw bytes.

        Args:
            most_numbers: that the ``contents`` of an input may hold, where they are no bytes of a tensor.

        Raises:
            TooManyElements: they hold more.
            RequestError: it is not what the protocol says; the message names the place.
        """
        head = self.head
        if not self.inputs:
            raise RequestError("the request needs at least one of inputs")
        if len(head.id) > MOST_ID:
            raise RequestError(f"id is text of at most {MOST_ID} characters")
        if self.raw:
            for described, contents in self.inputs:
                if contents is not None:
                    raise RequestError(
                        "contents field must not be specified when using raw_input_contents for "
                        f"{described.name[:MOST_NAME]!r} for model {head.model_name[:MOST_NAME]!r}"
                    )
        raw = iter(self.raw)
        inputs = [_tensor(described, contents, raw, most_numbers) for described, contents in self.inputs]
        left = len(list(raw))
        if left:
            raise RequestError(f"{len(self.raw)} raw_input_contents, {left} more than inputs take")
        return InferBody(inputs, _outputs(head.outputs), head.id, binary=True, parameters=self.parameters())


def parameters_of(message: Any) -> dict[str, Any]:
    """The parameters of a request, an input or an output, by name."""
    found = {}
    for name, choice in message.parameters.items():
        which = choice.WhichOneof("parameter_choice")
        if which is not None:
            found[name] = getattr(choice, which)
    return found


def _check_structure(size: int) -> None:
    if size > _MOST_STRUCTURE:
        raise RequestError(
            f"the request holds {size} bytes beside the values of its tensors; it may hold {_MOST_STRUCTURE}"
        )


def _split_input(entry: memoryview) -> tuple[bytes, memoryview | None]:
    """An input without its contents, and these."""
    described, contents = bytearray(), None
    for field in wire_fields(entry):
        if field.number != _CONTENTS or field.wire != BYTES:
            described += entry[field.start : field.end]
        elif contents is not None:
            raise RequestError("an input has contents twice")
        else:
            contents = entry[field.value : field.end]
    return bytes(described), contents


def _tensor(
    described: Any, contents: memoryview | None, raw: Iterator[memoryview], most_numbers: int
) -> Tensor:
    name, datatype = described.name, described.datatype
    if max(len(name), len(datatype)) > MOST_NAME:
        raise RequestError(f"{name[:40]!r}...: names and datatypes have at most {MOST_NAME} characters")
    if len(described.shape) > MOST_DIMENSIONS:
        raise RequestError(
            f"input {name!r}: its shape has {len(described.shape)} sizes; it may have at most "
            f"{MOST_DIMENSIONS} dimensions"
        )
    shape = tuple(described.shape)
    if any(size < 0 for size in shape):
        raise RequestError(f"input {name!r} needs a shape of whole numbers, not {list(shape)}")
    place = shared_place(parameters_of(described), f"input {name!r}")
    if place is not None:
        if contents is not None:
            raise RequestError(f"input {name!r} has values beside those in shared memory")
        return Tensor(name, datatype, shape, [], place)
    if contents is None:
        values = next(raw, None)
        if values is None:
            raise RequestError(f"input {name!r} has neither contents nor one of raw_input_contents")
        return Tensor(name, datatype, shape, values)
    return Tensor(name, datatype, shape, _typed(name, datatype, contents, most_numbers))


def _typed(name: str, datatype: str, contents: memoryview, most: int) -> memoryview | list[Any]:
    """The values of an input that came as ``contents``."""
    if datatype in _AS_SENT:
        parts = [
            contents[field.value : field.end]
            for field in wire_fields(contents)
            if field.number == _AS_SENT[datatype]
        ]
        if contents and not parts:
            raise _wrong_field(name, datatype, _AS_SENT_NAMES[datatype])
        if datatype == "BYTES":
            return list(parts)
        return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))
    if datatype not in _TYPED:
        raise RequestError(
            f"input {name!r}: {datatype[:40]!r} has no contents; send its values as raw_input_contents"
        )
    numbers = getattr(parse(_Contents, bytes(contents), most_bytes=len(contents)), _TYPED[datatype])
    if contents and not numbers:
        raise _wrong_field(name, datatype, _TYPED[datatype])
    if len(numbers) > most:
        raise TooManyElements(
            f"input {name!r}: {len(numbers)} numbers in its contents; there may be {most} "
            "(setting max_json_elements): send raw_input_contents"
        )
    return list(numbers)


def _wrong_field(name: str, datatype: str, field: str) -> RequestError:
    return RequestError(f"input {name!r}: the values of {datatype} are expected in {field}, which is empty")


def _outputs(asked: Sequence[Any]) -> list[OutputWanted]:
    if len(asked) > MOST_TENSORS:
        raise RequestError(f"{len(asked)} outputs; a request may have at most {MOST_TENSORS} outputs")
    found: dict[str, OutputWanted] = {}
    for output in asked:
        if output.name in found:
            raise RequestError(f"output {output.name[:MOST_NAME]!r} is asked for twice")
        parameters = parameters_of(output)
        classes = parameters.get("classification", 0)
        if type(classes) is not int or classes < 0:
            raise RequestError(f"classification of output {output.name!r} is a number of classes")
        place = shared_place(parameters, f"output {output.name!r}")
        found[output.name] = OutputWanted(output.name, True, classes, place)
    return list(found.values())


def infer_response(
    head: Mapping[str, str], outputs: Sequence[tuple[str, Array, bool | SharedPlace]]
) -> bytes:
    """Build a ModelInferResponse, its values as raw_output_contents.

    Args:
        head: model_name, model_version, id.
        outputs: name and values of each, and where it is in shared memory, if it is. Such an output is empty
            among the raw_output_contents, so that these stay in the order of the outputs.
    """
    response = _Response(**head)
    for name, values, place in outputs:
        output = response.outputs.add(name=name, datatype=datatype_of(values.dtype), shape=values.shape)
        if isinstance(place, SharedPlace):
            for parameter, value in place.parameters().items():
                choice = "string_param" if isinstance(value, str) else "int64_param"
                setattr(output.parameters[parameter], choice, value)
            response.raw_output_contents.append(b"")
        else:
            response.raw_output_contents.append(raw_bytes(np.ascontiguousarray(values)))
    data: bytes = response.SerializeToString()
    return data
