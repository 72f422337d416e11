"""Makes arrays of the tensors that clients send: JSON numbers, binary data or BYTES elements."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from cpuserve.errors import RequestError
from cpuserve.protocols.base64_text import decode_base64
from cpuserve.protocols.shared_memory import SharedPlace
from cpuserve.serving.engine import Array
from cpuserve.serving.value_range import takes_any_value

__all__ = ["ANY_VALUE", "MOST_DIMENSIONS", "ONLY_PICTURES", "Tensor", "datatype_of", "numbers"]

_DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("bool"),
    **{
        f"{kind.upper()}{bits}": np.dtype(f"{kind}{bits}")
        for kind in ("uint", "int")
        for bits in (8, 16, 32, 64)
    },
    **{f"FP{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
}
ANY_VALUE = frozenset(name for name, dtype in _DTYPES.items() if takes_any_value(dtype))
"""Datatypes whose values need no check."""

_NUMBERS = frozenset({int, float, bool})
ONLY_PICTURES = "BYTES are pictures, and these are the only input of a request"
MOST_DIMENSIONS = 64  # NumPy's limit
_MOST_ELEMENTS = (1 << 63) - 1
_DATATYPES: dict[Any, str] = {dtype: name for name, dtype in _DTYPES.items()} | {np.dtype(object): "BYTES"}


def datatype_of(dtype: np.dtype[Any]) -> str:
    """The protocol's name of an element type."""
    return _DATATYPES[dtype]


def numbers(where: str, values: Any, dtype: np.dtype[Any]) -> Array:
    """Make an array of JSON numbers.

    Args:
        where: the name of the values in messages.
        values: a number, or lists of numbers of any depth.
        dtype: element type of the array; floats are not rounded to integers.

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
        array = _whole_numbers(where, values, dtype)
    if dtype.kind == "b" and array.size and (array.min() < 0 or array.max() > 1):
        raise RequestError(f"{where}: data do not fit into {datatype_of(dtype)}: it is true or false, 1 or 0")
    if dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise RequestError(f"{where}: data do not fit into {datatype_of(dtype)}")
    with np.errstate(over="ignore"):
        typed = array.astype(dtype)
    if dtype.kind == "f" and not np.isfinite(typed).all():
        raise RequestError(f"{where}: data do not fit into {datatype_of(dtype)}")
    return typed


def _whole_numbers(where: str, values: list[Any], dtype: np.dtype[Any]) -> Array:
    """An array of numbers for which NumPy has found no type by itself, as for 1 beside 2 to the power of 63.

    Raises:
        RequestError: one of them is no whole number, or does not fit.
    """
    if dtype.kind == "b" or any(type(value) is float for leaf in _leaves(where, values) for value in leaf):
        raise RequestError(f"{where}: data are not {datatype_of(dtype)} numbers")
    try:
        return np.array(values, dtype)
    except OverflowError:
        raise RequestError(f"{where}: data do not fit into {datatype_of(dtype)}") from None


def _leaves(where: str, data: list[Any], depth: int = 1) -> Iterator[list[Any]]:
    """The innermost lists of JSON data, in order."""
    if list not in map(type, data):
        yield data
        return
    if depth == MOST_DIMENSIONS:
        raise RequestError(f"{where}: data are nested deeper than {MOST_DIMENSIONS} lists")
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
        data: raw bytes of the binary extension, the values of the JSON form, or BYTES elements as they are.
        place: of the values in shared memory; None where they are in ``data``.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: memoryview | list[Any]
    place: SharedPlace | None = None

    def array(self) -> Array:
        """The values, [*shape].

        Raises:
            RequestError: the datatype cannot be served, or the data do not fill the shape.
        """
        if not isinstance(self.data, memoryview):
            return self._from_json(self.element_type(), self._count())
        return self._shaped(np.frombuffer(self.data, self.element_type(self.data.nbytes)))

    def element_type(self, nbytes: int | None = None) -> np.dtype[Any]:
        """The type of its values.

        Args:
            nbytes: that they take; None where they came in another form.

        Raises:
            RequestError: the datatype cannot be served, or the shape takes another number of bytes.
        """
        if self.datatype not in _DTYPES:
            if self.datatype == "BYTES":
                raise RequestError(f"input {self.name!r}: {ONLY_PICTURES}")
            raise RequestError(
                f"input {self.name!r}: datatype {self.datatype!r} is none of {', '.join(_DTYPES)}"
            )
        dtype = _DTYPES[self.datatype]
        if nbytes is not None and nbytes != (wanted := self._count() * dtype.itemsize):
            raise RequestError(
                f"input {self.name!r}: shape {list(self.shape)} of {self.datatype} takes "
                f"{wanted} bytes, {nbytes} were sent"
            )
        return dtype

    @property
    def is_list(self) -> bool:
        """Whether its shape is [N] or [N, 1], and not empty, as that of pictures is."""
        return 0 not in self.shape and (len(self.shape) == 1 or self.shape[1:] == (1,))

    def _count(self) -> int:
        """How many elements the shape has.

        Raises:
            RequestError: more than an array can have.
        """
        count = math.prod(self.shape)
        if count > _MOST_ELEMENTS:
            raise self._no_array()
        return count

    def _no_array(self) -> RequestError:
        return RequestError(f"input {self.name!r}: there is no array of shape {list(self.shape)}")

    def _shaped(self, values: Array) -> Array:
        try:
            return values.reshape(self.shape)
        except ValueError:  # zeros beside sizes, or more sizes, than an array may have
            raise self._no_array() from None

    def _from_json(self, dtype: np.dtype[Any], count: int) -> Array:
        where = f"input {self.name!r}"
        values = numbers(where, self.data, dtype)
        if values.size != count:
            raise RequestError(
                f"{where}: shape {list(self.shape)} takes {count} values, {values.size} were sent"
            )
        return self._shaped(values)

    def elements(self) -> list[bytes | memoryview]:
        """The BYTES elements: length-prefixed in the binary form, base64 text in JSON, or as they are.

        Raises:
            RequestError: the lengths or the base64 are wrong, or the count is not the shape's.
        """
        count = self._count()
        if isinstance(self.data, memoryview):
            elements: Iterator[bytes | memoryview] = self._prefixed(self.data)
        else:
            leaves = _leaves(f"input {self.name!r}", self.data)
            elements = (self._element(sent) for leaf in leaves for sent in leaf)
        found = list(islice(elements, count))
        if len(found) != count or next(elements, None) is not None:
            sent = f"{len(found)} elements" if len(found) != count else f"more than {count} elements"
            raise RequestError(
                f"input {self.name!r}: shape {list(self.shape)} of BYTES, but {sent} were sent"
            )
        return found

    def _prefixed(self, data: memoryview) -> Iterator[memoryview]:
        at = 0
        while at < data.nbytes:
            if at + 4 > data.nbytes:
                raise RequestError(f"input {self.name!r}: the data end inside the length of a BYTES element")
            (length,) = struct.unpack_from("<I", data, at)
            at += 4
            if at + length > data.nbytes:
                raise RequestError(
                    f"input {self.name!r}: BYTES element of {length} bytes ends after {data.nbytes - at}"
                )
            yield data[at : at + length]
            at += length

    def _element(self, sent: object) -> bytes | memoryview:
        if isinstance(sent, memoryview):
            return sent
        try:
            return decode_base64(sent if isinstance(sent, str) else "?")
        except ValueError:
            raise RequestError(f"input {self.name!r}: BYTES in JSON are base64 text") from None
