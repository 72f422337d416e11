"""Parses and builds Open Inference Protocol bodies: JSON, binary tensors, BYTES elements."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import orjson

from cpuserve.errors import RequestError
from cpuserve.protocols.json_body import read_json
from cpuserve.protocols.shared_memory import SharedPlace
from cpuserve.protocols.tensor import MOST_DIMENSIONS, Tensor, datatype_of
from cpuserve.serving.engine import Array

__all__ = [
    "MOST_ID",
    "MOST_NAME",
    "MOST_TENSORS",
    "InferBody",
    "OutputWanted",
    "classified",
    "infer_reply_body",
    "parse_infer",
    "raw_bytes",
    "shared_place",
]

_MOST_DIGITS = 18
_PLACE = frozenset(("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"))
MOST_TENSORS = 1024
MOST_NAME = 1024
MOST_ID = 4096


class OutputWanted(NamedTuple):
    """An output the client asks for.

    Attributes:
        name: of the output.
        binary: send it as binary data.
        classification: send only the best so many classes, as text; 0 sends the tensor.
        place: where in shared memory to write it; None sends it.
    """

    name: str
    binary: bool
    classification: int = 0
    place: SharedPlace | None = None


@dataclass(frozen=True)
class InferBody:
    """A whole infer request.

    Attributes:
        id: echoed in the answer, if it was sent.
        inputs: the tensors.
        outputs: those asked for; empty means all.
        binary: whether outputs not asked for by name are sent as binary data.
    """

    inputs: Sequence[Tensor]
    outputs: Sequence[OutputWanted] = ()
    id: str | None = None
    binary: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)


def parse_infer(
    body: memoryview, header_length: str | None, read: Callable[[memoryview], Any] = read_json
) -> InferBody:
    """Parse an infer request.

    Args:
        body: the whole body.
        header_length: the ``Inference-Header-Content-Length`` header: bytes of JSON before the tensors.
        read: parses the JSON; `Call.read_json` also holds it to the limits of the request.

    Raises:
        TooManyElements: the JSON may hold more values than that.
        DeadlineExceeded: the time is over, before or after the JSON was parsed.
        RequestError: it is not what the protocol says; the message names the place.
    """
    json_bytes = body.nbytes
    if header_length is not None:
        short = len(header_length) <= _MOST_DIGITS and header_length.isascii() and header_length.isdigit()
        json_bytes = int(header_length) if short else -1
        if not 0 <= json_bytes <= body.nbytes:
            raise RequestError(
                f"Inference-Header-Content-Length is {header_length[:40]!r}; the body has {body.nbytes} bytes"
            )
    document = read(body[:json_bytes])
    if (
        not isinstance(document, dict)
        or not isinstance(document.get("inputs"), list)
        or not document["inputs"]
    ):
        raise RequestError('the request needs a list "inputs" of at least one tensor')
    binary = body[json_bytes:]
    inputs = []
    _check_count(document["inputs"], "inputs")
    for entry in document["inputs"]:
        tensor, binary = _input(entry, binary, alone=len(document["inputs"]) == 1)
        inputs.append(tensor)
    if binary.nbytes:
        raise RequestError(
            f"{binary.nbytes} bytes follow the last tensor; binary_data_size says how many there are"
        )
    parameters = _parameters(document, "the request")
    by_default = parameters.get("binary_data_output", False) is True
    return InferBody(
        inputs=inputs,
        outputs=_outputs(document, by_default),
        id=_identity(document.get("id")),
        binary=by_default,
        parameters=parameters,
    )


def _check_count(entries: Sequence[Any], what: str) -> None:
    if len(entries) > MOST_TENSORS:
        raise RequestError(f"{len(entries)} {what}; a request may have at most {MOST_TENSORS} {what}")


def _identity(sent: Any) -> str | None:
    """The id as it is echoed."""
    if sent is None or type(sent) is int:
        return None if sent is None else str(sent)
    if not isinstance(sent, str) or len(sent) > MOST_ID:
        raise RequestError(f'"id" is text of at most {MOST_ID} characters')
    return sent


def _text(sent: Any) -> str | None:
    """A name or a datatype; None for what is no text."""
    if not isinstance(sent, str):
        return None
    if len(sent) > MOST_NAME:
        raise RequestError(
            f"{sent[:40]!r}... has {len(sent)} characters; names have at most {MOST_NAME} characters"
        )
    return sent


def _parameters(entry: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    parameters = entry.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise RequestError(f'"parameters" of {where} is an object')
    return parameters


def _input(entry: Any, binary: memoryview, *, alone: bool) -> tuple[Tensor, memoryview]:
    name = _text(entry.get("name")) if isinstance(entry, dict) else None
    if name is None:
        raise RequestError('each of "inputs" is an object with "name", "shape" and "datatype"')
    datatype, shape = _text(entry.get("datatype")), entry.get("shape")
    if datatype is None:
        raise RequestError(f'input {name!r} needs a "datatype"')
    if isinstance(shape, list) and len(shape) > MOST_DIMENSIONS:
        raise RequestError(
            f"input {name!r}: its shape has {len(shape)} sizes; it may have at most {MOST_DIMENSIONS} "
            "dimensions"
        )
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise RequestError(f'input {name!r} needs a "shape": a list of whole numbers')
    parameters = _parameters(entry, f"input {name!r}")
    place = shared_place(parameters, f"input {name!r}")
    if place is not None:
        if "data" in entry or "binary_data_size" in parameters:
            raise RequestError(f"input {name!r} has values beside those in shared memory")
        return Tensor(name, datatype, tuple(shape), [], place), binary
    size, data = parameters.get("binary_data_size"), entry.get("data")
    if data is None and size is None and alone and binary.nbytes:
        size = binary.nbytes
    if (data is None) == (size is None):
        raise RequestError(f'input {name!r} needs either "data" or the parameter "binary_data_size"')
    if data is not None:
        if not isinstance(data, list):
            raise RequestError(f'"data" of input {name!r} is a list')
        return Tensor(name, datatype, tuple(shape), data), binary
    if type(size) is not int or not 0 <= size <= binary.nbytes:
        raise RequestError(
            f"input {name!r}: binary_data_size is {_shown(size)}, "
            f"{binary.nbytes} bytes follow the JSON header"
        )
    return Tensor(name, datatype, tuple(shape), binary[:size]), binary[size:]


def _shown(sent: Any) -> str:
    """What was sent instead of a number, short enough for a message."""
    return (
        f"{sent[:40]!r}"
        if isinstance(sent, str)
        else type(sent).__name__
        if isinstance(sent, list | dict)
        else str(sent)
    )


def _outputs(document: Mapping[str, Any], by_default: bool) -> list[OutputWanted]:
    entries = document.get("outputs") or []
    if not isinstance(entries, list):
        raise RequestError('"outputs" is a list')
    _check_count(entries, "outputs")
    found = {}
    for entry in entries:
        output = _output(entry, by_default)
        if output.name in found:  # a small body must not ask for a thousand copies
            raise RequestError(f"output {output.name!r} is asked for twice")
        found[output.name] = output
    return list(found.values())


def _output(entry: Any, by_default: bool) -> OutputWanted:
    name = _text(entry.get("name")) if isinstance(entry, dict) else None
    if name is None:
        raise RequestError('each of "outputs" is an object with "name"')
    parameters = _parameters(entry, f"output {name!r}")
    classification = parameters.get("classification", 0)
    if type(classification) is not int or classification < 0:
        raise RequestError(f"classification of output {name!r} is a number of classes")
    binary = parameters.get("binary_data", by_default) is True
    return OutputWanted(name, binary, classification, shared_place(parameters, f"output {name!r}"))


def shared_place(parameters: Mapping[str, Any], where: str) -> SharedPlace | None:
    """Where an input or output is in shared memory by its parameters; None where it is not.

    Raises:
        RequestError: the parameters name no place.
    """
    if _PLACE.isdisjoint(parameters):
        return None
    region = parameters.get("shared_memory_region")
    offset, size = parameters.get("shared_memory_offset", 0), parameters.get("shared_memory_byte_size")
    if not isinstance(region, str) or type(offset) is not int or type(size) is not int:
        raise RequestError(
            f"{where}: shared_memory_region is a name, shared_memory_byte_size and shared_memory_offset are "
            "whole numbers"
        )
    if offset < 0 or size < 0:
        raise RequestError(f"{where}: offset {offset} and {size} bytes are no place in shared memory")
    return SharedPlace(region, offset, size, where)


def classified(rows: Array, count: int, labels: Sequence[str]) -> Array:
    """The best classes of each row as BYTES elements ``value:index[:label]``.

    Args:
        rows: [N, ...] numbers, one a class.
        count: classes wanted.
        labels: name by class.

    Returns:
        [N, min(count, classes)] of text, best first.
    """
    flat = rows.reshape(rows.shape[0], -1)
    order = flat if flat.dtype.kind == "f" else flat.astype(np.float64)  # else small integers would wrap
    best = np.argsort(-order, axis=1, kind="stable")[:, :count]
    text = np.empty(best.shape, dtype=object)
    for row, classes in enumerate(best.tolist()):
        for place, index in enumerate(classes):
            value = flat[row, index]
            number = f"{value:.6f}" if flat.dtype.kind == "f" else str(int(value))
            text[row, place] = f"{number}:{index}" + (f":{labels[index]}" if index < len(labels) else "")
    return text


def infer_reply_body(
    head: Mapping[str, Any], outputs: Sequence[tuple[str, Array, bool | SharedPlace]]
) -> tuple[bytes, int | None]:
    """Build the body of an infer answer.

    Args:
        head: model_name, model_version, id.
        outputs: name, array, and whether as binary data, or where in shared memory it is.

    Returns:
        The body, and the length of its JSON if binary data follow it.
    """
    entries: list[dict[str, Any]] = []
    buffers: list[bytes] = []
    for name, array, binary in outputs:
        entry: dict[str, Any] = {
            "name": name,
            "datatype": datatype_of(array.dtype),
            "shape": list(array.shape),
        }
        flat = np.ascontiguousarray(array).reshape(-1)
        # one in shared memory has no parameters: Triton's client in C++ takes any for a size of binary data
        if binary is True:
            buffers.append(raw_bytes(flat))
            entry["parameters"] = {"binary_data_size": len(buffers[-1])}
        elif binary is False:
            entry["data"] = flat.tolist() if flat.dtype == object else flat
        entries.append(entry)
    text = orjson.dumps({**head, "outputs": entries}, option=orjson.OPT_SERIALIZE_NUMPY)
    if not buffers:
        return text, None
    return b"".join([text, *buffers]), len(text)


def raw_bytes(array: Array) -> bytes:
    """The values of an array as the protocol sends them: text as BYTES, each element behind its length."""
    if not array.dtype.hasobject:
        return array.tobytes()
    parts = []
    for element in array.reshape(-1).tolist():
        encoded = element.encode()
        parts += [struct.pack("<I", len(encoded)), encoded]
    return b"".join(parts)
