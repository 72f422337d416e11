"""Reads ModelInferRequest and writes ModelInferResponse; large values are not copied through protobuf."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from cpuserve.errors import RequestError
from cpuserve.grpc.infer_structure import MOST_STRUCTURE, InferStructure, structure_of, text_of
from cpuserve.grpc.known_beginnings import KnownBeginnings
from cpuserve.grpc.messages import message_class, parse
from cpuserve.grpc.values_left import ValuesLeft, packed_numbers
from cpuserve.grpc.wire import BYTES, EIGHT_BYTES, FOUR_BYTES, bytes_field, wire_fields
from cpuserve.protocols.shared_memory import SharedPlace
from cpuserve.protocols.tensor import ONLY_PICTURES, Tensor, datatype_of
from cpuserve.protocols.v2_body import MOST_ID, MOST_NAME, MOST_TENSORS, InferBody, raw_bytes
from cpuserve.serving.engine import Array

__all__ = ["InferMessage", "infer_response"]

_Contents = message_class("inference.InferTensorContents")
_Response = message_class("inference.ModelInferResponse")

_ID, _INPUTS, _RAW = 3, 5, 7  # fields of the request; the answer has the id there too
_RAW_OUTPUT = 6  # of the answer
_CONTENTS = 5  # of an input
_FP32, _FP64, _ELEMENTS = 6, 7, 8  # of its contents
_ANSWERS = 256  # of which the beginnings are kept
_TYPED = {
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "BOOL": "bool_contents",
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
}
_Described = tuple[str, np.dtype[Any], tuple[int, ...], SharedPlace | None]
_NUMBERS = "numbers in its contents"
# contents whose bytes are the values: their field, how a single number is stored, and its bytes
_AS_SENT = {
    "FP32": (_FP32, FOUR_BYTES, 4),
    "FP64": (_FP64, EIGHT_BYTES, 8),
    "BYTES": (_ELEMENTS, BYTES, 1),
}
_AS_SENT_NAMES = {"FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents"}


@dataclass(frozen=True)
class InferMessage:
    """A ModelInferRequest whose values are still the bytes that came.

    Attributes:
        structure: all of it but values and id.
        id: of the request; may be empty.
        contents: the bytes of each input's ``contents``, or None.
        raw: the raw_input_contents.
    """

    structure: InferStructure
    id: str
    contents: Sequence[memoryview | None]
    raw: Sequence[memoryview]

    @classmethod
    def read(cls, message: bytes) -> InferMessage:
        """Read a request as it was sent.

        Raises:
            RequestError: it is no ModelInferRequest, or holds too much beside the values of its tensors.
        """
        known = _known.find(message)
        if known is not None:
            structure, value = known
            return cls(structure, "", (None,), (value,))
        return cls._read(message)

    @classmethod
    def _read(cls, message: bytes) -> InferMessage:
        data = memoryview(message)
        rest, named, entries, raw = bytearray(), b"", [], []
        beginning, raw_last = 0, False  # where the last field begins, and whether it has values
        for number, wire, start, value, end in wire_fields(data):
            beginning, raw_last = start, number == _RAW
            if wire == BYTES and number == _RAW:
                raw.append(data[value:end])
            elif wire == BYTES and number == _INPUTS:
                entries.append(data[value:end])
            elif wire == BYTES and number == _ID:
                named = bytes(data[value:end])
                _check_structure(len(named))
            else:
                rest += data[start:end]
                _check_structure(len(rest))
        for count, what in ((len(entries), "inputs"), (len(raw), "raw_input_contents")):
            if count > MOST_TENSORS:
                raise RequestError(f"{count} {what}; a request may have at most {MOST_TENSORS} {what}")
        size = len(rest) + len(named)
        described, found = [], []
        for entry in entries:
            text, contents = _split_input(entry)
            size += len(text)
            _check_structure(size)
            described.append(text)
            found.append(contents)
        structure = structure_of(bytes(rest), tuple(described), size)
        if raw_last and len(raw) == 1 and found == [None] and not named:
            _known.keep(message[:beginning], structure)
        return cls(structure, text_of(named), found, raw)

    @property
    def has_values(self) -> bool:
        """Whether it brings values: those of others are all in shared memory."""
        return bool(self.raw or any(self.contents))

    def shared_bytes(self) -> int:
        """Bytes that it reads out of shared memory; 0 of a request that is refused when it is run."""
        try:
            places = [tensor.place for tensor in self.structure.tensors]
        except RequestError:  # that there is no such model is said first
            return 0
        return sum(place.byte_size for place in places if place is not None)

    def body(self, most_numbers: int) -> InferBody:
        """The request as V2's handlers take it; outputs are sent as raw bytes.

        Args:
            most_numbers: that the ``contents`` of all inputs may hold, where they are no bytes of a tensor.

        Raises:
            TooManyElements: they hold more.
            RequestError: it is not what the protocol says; the message names the place.
        """
        structure = self.structure
        if not self.contents:
            raise RequestError("the request needs at least one of inputs")
        if len(self.id) > MOST_ID:
            raise RequestError(f"id is text of at most {MOST_ID} characters")
        described = structure.tensors
        if self.raw:
            for tensor, contents in zip(described, self.contents, strict=True):
                if contents is not None:
                    raise RequestError(
                        "contents field must not be specified when using raw_input_contents for "
                        f"{tensor.name!r} for model {structure.model_name[:MOST_NAME]!r}"
                    )
        elif len(described) > 1:
            _check_pictures(described, self.contents)
        left = _NONE_LEFT if self.raw else ValuesLeft(most_numbers, "raw_input_contents")
        raw = iter(self.raw)
        inputs = [
            _tensor(tensor, contents, raw, left)
            for tensor, contents in zip(described, self.contents, strict=True)
        ]
        unused = len(list(raw))
        if unused:
            raise RequestError(f"{len(self.raw)} raw_input_contents, {unused} more than inputs take")
        return InferBody(inputs, structure.outputs, self.id, binary=True, parameters=structure.parameters)


_NONE_LEFT = ValuesLeft(0, "raw_input_contents")  # of a request that has no contents
_known: KnownBeginnings[InferStructure] = KnownBeginnings(_RAW)


def _check_structure(size: int) -> None:
    if size > MOST_STRUCTURE:
        raise RequestError(
            f"the request holds {size} bytes beside the values of its tensors; it may hold {MOST_STRUCTURE}"
        )


def _check_pictures(described: Sequence[Tensor], sent: Sequence[memoryview | None]) -> None:
    """Refuse pictures in several inputs before there is an object for each.

    Raises:
        RequestError: an input holds some.
    """
    for tensor, contents in zip(described, sent, strict=True):
        if contents is not None and tensor.datatype == "BYTES":
            raise RequestError(f"input {tensor.name!r}: {ONLY_PICTURES}")


def _split_input(entry: memoryview) -> tuple[bytes, memoryview | None]:
    """An input without its contents, and these."""
    described, contents = bytearray(), None
    for number, wire, start, value, end in wire_fields(entry):
        if number != _CONTENTS or wire != BYTES:
            described += entry[start:end]
        elif contents is not None:
            raise RequestError("an input has contents twice")
        else:
            contents = entry[value:end]
    return bytes(described), contents


def _tensor(
    described: Tensor, contents: memoryview | None, raw: Iterator[memoryview], left: ValuesLeft
) -> Tensor:
    """An input with its values."""
    name, datatype, shape = described.name, described.datatype, described.shape
    if described.place is not None:
        if contents is not None:
            raise RequestError(f"input {name!r} has values beside those in shared memory")
        return described
    if contents is None:
        values = next(raw, None)
        if values is None:
            raise RequestError(f"input {name!r} has neither contents nor one of raw_input_contents")
        return Tensor(name, datatype, shape, values)
    return Tensor(name, datatype, shape, _typed(name, datatype, contents, left))


def _typed(name: str, datatype: str, contents: memoryview, left: ValuesLeft) -> memoryview | list[Any]:
    """The values of an input that came as ``contents``."""
    if datatype in _AS_SENT:
        field, single, size = _AS_SENT[datatype]
        parts = [
            contents[value:end]
            for number, wire, _, value, end in wire_fields(contents)
            if number == field and wire in (BYTES, single)
        ]
        if contents and not parts:
            raise _wrong_field(name, datatype, _AS_SENT_NAMES[datatype])
        if datatype == "BYTES":
            return list(parts)
        if len(parts) == 1:
            return parts[0]
        if any(part.nbytes % size for part in parts):
            raise RequestError(f"input {name!r}: {_AS_SENT_NAMES[datatype]} ends inside a number")
        return memoryview(b"".join(parts))
    if datatype not in _TYPED:
        raise RequestError(
            f"input {name!r}: {datatype[:40]!r} has no contents; send its values as raw_input_contents"
        )
    if contents.nbytes > left.count:  # each takes a byte or more
        left.check(name, packed_numbers(contents), _NUMBERS)
    numbers = getattr(parse(_Contents, bytes(contents), most_bytes=len(contents)), _TYPED[datatype])
    if contents and not numbers:
        raise _wrong_field(name, datatype, _TYPED[datatype])
    left.take(name, len(numbers), _NUMBERS)
    return list(numbers)


def _wrong_field(name: str, datatype: str, field: str) -> RequestError:
    return RequestError(f"input {name!r}: the values of {datatype} are expected in {field}, which is empty")


def infer_response(
    names: tuple[str, str], request_id: str, outputs: Sequence[tuple[str, Array, bool | SharedPlace]]
) -> bytes:
    """Build a ModelInferResponse, its values as raw_output_contents.

    Args:
        names: of the model and its version.
        request_id: may be empty.
        outputs: name and values of each, and where it is in shared memory, if it is. Such an output is empty
            among the raw_output_contents, so that these stay in the order of the outputs.
    """
    described: list[_Described] = []
    raw: list[bytes] = []
    if request_id:
        identity = request_id.encode()
        raw += (bytes_field(_ID, len(identity)), identity)
    for name, values, place in outputs:
        placed = place if isinstance(place, SharedPlace) else None
        described.append((name, values.dtype, values.shape, placed))
        data = b"" if placed is not None else raw_bytes(values)
        raw += (bytes_field(_RAW_OUTPUT, len(data)), data)
    return _description(names, *described) + b"".join(raw)


@lru_cache(maxsize=_ANSWERS)
def _description(names: tuple[str, str], *outputs: _Described) -> bytes:
    """The part of an answer that repeats: messages that follow each other on the wire are one."""
    response = _Response(model_name=names[0], model_version=names[1])
    for name, dtype, shape, place in outputs:
        output = response.outputs.add(name=name, datatype=datatype_of(dtype), shape=shape)
        for parameter, value in ({} if place is None else place.parameters()).items():
            choice = "string_param" if isinstance(value, str) else "int64_param"
            setattr(output.parameters[parameter], choice, value)
    data: bytes = response.SerializeToString()
    return data
