"""Open Inference Protocol bodies: JSON, binary tensor extension, BYTES elements; it calls no model."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from cpuserve.errors import RequestError
from cpuserve.serving.engine import Array

__all__ = [
    "InferBody",
    "OutputWanted",
    "Tensor",
    "classified",
    "datatype_of",
    "infer_reply_body",
    "numbers",
    "parse_infer",
]

_DTYPES: dict[str, str] = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}
_NUMBERS = frozenset({int, float, bool})
_MOST_DIMENSIONS = 64  # NumPy's limit
_MOST_DIGITS = 18
_DATATYPES = {dtype: name for name, dtype in _DTYPES.items()} | {"object": "BYTES"}


def datatype_of(dtype: np.dtype[Any]) -> str:
    """The protocol's name of an element type."""
    return _DATATYPES[dtype.name]


def numbers(where: str, values: Any, dtype: np.dtype[Any]) -> Array:
    """An array of JSON numbers.

    Args:
        where: what they are, for messages.
        values: a number, or lists of numbers of any depth.
        dtype: element type of the array; floats are not cut to integers.

    Raises:
        RequestError: rows differ in length, or the values are no numbers or do not fit the type.
    """
    # before NumPy sees them: it makes room for the longest text as often as there are elements
    leaves = _leaves(where, values if isinstance(values, list) else [values])
    if any(not _NUMBERS.issuperset(map(type, leaf)) for leaf in leaves):
        raise RequestError(f"{where}: data are not {datatype_of(dtype)} numbers")
    try:
        array = np.array(values)
    except ValueError:
        raise RequestError(f"{where}: the rows of data differ in length") from None
    if array.dtype.kind not in ("iufb" if dtype.kind == "f" else "iub") and array.size:
        raise RequestError(f"{where}: data are not {datatype_of(dtype)} numbers")
    if dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise RequestError(f"{where}: data do not fit into {datatype_of(dtype)}")
    with np.errstate(over="ignore"):
        typed = array.astype(dtype)
    if dtype.kind == "f" and not np.isfinite(typed).all():
        raise RequestError(f"{where}: data do not fit into {datatype_of(dtype)}")
    return typed


def _leaves(where: str, data: list[Any], depth: int = 1) -> Iterator[list[Any]]:
    """The innermost lists of JSON data, in order."""
    if list not in map(type, data):
        yield data
        return
    if depth == _MOST_DIMENSIONS:
        raise RequestError(f"{where}: data are nested deeper than {_MOST_DIMENSIONS} lists")
    for part in data:
        if not isinstance(part, list):
            raise RequestError(f"{where}: the rows of data differ in length")
        yield from _leaves(where, part, depth + 1)


@dataclass(frozen=True)
class Tensor:
    """An input as it was sent.

    Attributes:
        name: of the input.
        datatype: the protocol's name of the element type.
        shape: as sent.
        data: raw bytes of the binary extension, or the values of the JSON form.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: memoryview | list[Any]

    def array(self) -> Array:
        """The values, [*shape].

        Raises:
            RequestError: the datatype cannot be served, or the data do not fill the shape.
        """
        if self.datatype not in _DTYPES:
            raise RequestError(
                f"input {self.name!r}: datatype {self.datatype!r} is none of {', '.join(_DTYPES)}"
            )
        dtype = np.dtype(_DTYPES[self.datatype])
        count = int(np.prod(self.shape, dtype=object))
        if isinstance(self.data, memoryview):
            if self.data.nbytes != count * dtype.itemsize:
                raise RequestError(
                    f"input {self.name!r}: shape {list(self.shape)} of {self.datatype} takes "
                    f"{count * dtype.itemsize} bytes, {self.data.nbytes} were sent"
                )
            return self._shaped(np.frombuffer(self.data, dtype))
        return self._from_json(dtype, count)

    def _shaped(self, values: Array) -> Array:
        try:
            return values.reshape(self.shape)
        except ValueError:  # zeros beside sizes, or more sizes, than an array may have
            raise RequestError(
                f"input {self.name!r}: there is no array of shape {list(self.shape)}"
            ) from None

    def _from_json(self, dtype: np.dtype[Any], count: int) -> Array:
        where = f"input {self.name!r}"
        values = numbers(where, self.data, dtype)
        if values.size != count:
            raise RequestError(
                f"{where}: shape {list(self.shape)} takes {count} values, {values.size} were sent"
            )
        return self._shaped(values)

    def elements(self) -> list[bytes | memoryview]:
        """The BYTES elements: length-prefixed in the binary form, base64 text in JSON.

        Raises:
            RequestError: the lengths or the base64 are wrong, or the count is not the shape's.
        """
        if isinstance(self.data, memoryview):
            found: list[bytes | memoryview] = list(self._prefixed(self.data))
        else:
            leaves = _leaves(f"input {self.name!r}", self.data)
            found = [self._from_base64(text) for leaf in leaves for text in leaf]
        if len(found) != int(np.prod(self.shape, dtype=object)):
            raise RequestError(
                f"input {self.name!r}: shape {list(self.shape)} of BYTES, but {len(found)} elements were sent"
            )
        return found

    def _prefixed(self, data: memoryview) -> list[memoryview]:
        found, at = [], 0
        while at < data.nbytes:
            if at + 4 > data.nbytes:
                raise RequestError(f"input {self.name!r}: the data end inside the length of a BYTES element")
            (length,) = struct.unpack_from("<I", data, at)
            at += 4
            if at + length > data.nbytes:
                raise RequestError(
                    f"input {self.name!r}: BYTES element of {length} bytes ends after {data.nbytes - at}"
                )
            found.append(data[at : at + length])
            at += length
        return found

    def _from_base64(self, text: object) -> bytes:
        try:
            return base64.b64decode(text if isinstance(text, str) else "?", validate=True)
        except ValueError:
            raise RequestError(f"input {self.name!r}: BYTES in JSON are base64 text") from None


@dataclass(frozen=True)
class OutputWanted:
    """An output the client asks for.

    Attributes:
        name: of the output.
        binary: send it as binary data.
        classification: send only the best so many classes, as text; 0 sends the tensor.
    """

    name: str
    binary: bool
    classification: int = 0


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


def parse_infer(body: memoryview, header_length: str | None) -> InferBody:
    """Take an infer request apart.

    Args:
        body: the whole body.
        header_length: the ``Inference-Header-Content-Length`` header: bytes of JSON before the tensors.

    Raises:
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
    try:
        document = orjson.loads(body[:json_bytes])
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the request is not JSON: {error}") from None
    if (
        not isinstance(document, dict)
        or not isinstance(document.get("inputs"), list)
        or not document["inputs"]
    ):
        raise RequestError('the request needs a list "inputs" of at least one tensor')
    binary = body[json_bytes:]
    inputs = []
    for entry in document["inputs"]:
        tensor, binary = _input(entry, binary, alone=len(document["inputs"]) == 1)
        inputs.append(tensor)
    if binary.nbytes:
        raise RequestError(
            f"{binary.nbytes} bytes follow the last tensor; binary_data_size says how many there are"
        )
    parameters = _parameters(document, "the request")
    by_default = parameters.get("binary_data_output", False) is True
    identity = document.get("id")
    return InferBody(
        inputs=inputs,
        outputs=_outputs(document, by_default),
        id=identity if identity is None else str(identity),
        binary=by_default,
        parameters=parameters,
    )


def _parameters(entry: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    parameters = entry.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise RequestError(f'"parameters" of {where} is an object')
    return parameters


def _input(entry: Any, binary: memoryview, *, alone: bool) -> tuple[Tensor, memoryview]:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise RequestError('each of "inputs" is an object with "name", "shape" and "datatype"')
    name, datatype, shape = entry["name"], entry.get("datatype"), entry.get("shape")
    if not isinstance(datatype, str):
        raise RequestError(f'input {name!r} needs a "datatype"')
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise RequestError(f'input {name!r} needs a "shape": a list of whole numbers')
    parameters = _parameters(entry, f"input {name!r}")
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
            f"input {name!r}: binary_data_size is {size!r}, {binary.nbytes} bytes follow the JSON header"
        )
    return Tensor(name, datatype, tuple(shape), binary[:size]), binary[size:]


def _outputs(document: Mapping[str, Any], by_default: bool) -> list[OutputWanted]:
    entries = document.get("outputs") or []
    if not isinstance(entries, list):
        raise RequestError('"outputs" is a list')
    found = {}
    for entry in entries:
        output = _output(entry, by_default)
        if output.name in found:  # a small body must not ask for a thousand copies
            raise RequestError(f"output {output.name!r} is asked for twice")
        found[output.name] = output
    return list(found.values())


def _output(entry: Any, by_default: bool) -> OutputWanted:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise RequestError('each of "outputs" is an object with "name"')
    parameters = _parameters(entry, f"output {entry['name']!r}")
    classification = parameters.get("classification", 0)
    if type(classification) is not int or classification < 0:
        raise RequestError(f"classification of output {entry['name']!r} is a number of classes")
    return OutputWanted(entry["name"], parameters.get("binary_data", by_default) is True, classification)


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
            number = f"{value:.6f}" if flat.dtype.kind == "f" else str(value)
            text[row, place] = f"{number}:{index}" + (f":{labels[index]}" if index < len(labels) else "")
    return text


def infer_reply_body(
    head: Mapping[str, Any], outputs: Sequence[tuple[str, Array, bool]]
) -> tuple[bytes, int | None]:
    """Put an infer answer together.

    Args:
        head: model_name, model_version, id.
        outputs: name, array, and whether as binary data.

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
        if binary:
            buffers.append(_element_bytes(flat) if flat.dtype == object else flat.tobytes())
            entry["parameters"] = {"binary_data_size": len(buffers[-1])}
        else:
            entry["data"] = flat.tolist() if flat.dtype == object else flat
        entries.append(entry)
    text = orjson.dumps({**head, "outputs": entries}, option=orjson.OPT_SERIALIZE_NUMPY)
    if not buffers:
        return text, None
    return b"".join([text, *buffers]), len(text)


def _element_bytes(elements: Array) -> bytes:
    """Text as the protocol sends BYTES: each element behind its length."""
    parts = []
    for element in elements.tolist():
        encoded = element.encode()
        parts += [struct.pack("<I", len(encoded)), encoded]
    return b"".join(parts)
