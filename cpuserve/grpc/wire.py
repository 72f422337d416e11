"""Finds the fields of a protobuf message without copying what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from cpuserve.errors import RequestError

__all__ = ["BYTES", "EIGHT_BYTES", "FOUR_BYTES", "MOST_FIELDS", "bytes_field", "field_value", "wire_fields"]

BYTES, EIGHT_BYTES, FOUR_BYTES = 2, 1, 5
MOST_FIELDS = 4096
_VARINT = 0
_VARINT_BYTES = 10
_SIZES = 256  # for which heads are kept
_MORE = 128  # a byte of a number, if more follow


def wire_fields(data: memoryview) -> Iterator[tuple[int, int, int, int, int]]:
    """The fields of a message, in their order.

    Yields:
        The number of a field, as the .proto file has it; how its value is stored, `BYTES` for strings, bytes,
        messages and packed numbers; where the field begins, where its value begins, and where it ends.

    Raises:
        RequestError: the bytes are no message, or hold more than 4,096 fields.
    """
    at, size = 0, len(data)
    for _ in range(MOST_FIELDS):
        if at == size:
            return
        start = at
        key, at = (data[at], at + 1) if data[at] < _MORE else _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == BYTES:
            # most are shorter than 128 bytes: their length is one byte
            short = at < size and data[at] < _MORE
            length, value = (data[at], at + 1) if short else _varint(data, at)
            at = value + length
        elif wire == _VARINT:
            value = at
            _, at = _varint(data, at)
        elif wire in (EIGHT_BYTES, FOUR_BYTES):
            value = at
            at += 8 if wire == EIGHT_BYTES else 4
        else:
            raise RequestError(f"the message has a field {number} of the unknown kind {wire}")
        if at > size or not number:
            raise RequestError(f"the message ends inside field {number}")
        yield number, wire, start, value, at
    if at != size:
        raise RequestError(f"a message may have {MOST_FIELDS} fields; send numbers packed, pictures in turns")


def field_value(data: memoryview, at: int, number: int) -> memoryview | None:
    """The value of a field of bytes that ends a message.

    Args:
        data: the message.
        at: where the field begins.
        number: of the field, below 16.

    Returns:
        None where another field begins there, or one follows.

    Raises:
        RequestError: its length does not end.
    """
    if at >= len(data) or data[at] != (number << 3 | BYTES):
        return None
    length, value = _varint(data, at + 1)
    return data[value:] if value + length == len(data) else None


@lru_cache(maxsize=_SIZES)
def bytes_field(number: int, size: int) -> bytes:
    """What is in front of a value of bytes, for a field with a number below 16."""
    head = bytearray((number << 3 | BYTES,))
    while size >= _MORE:
        head.append(size & 127 | _MORE)
        size >>= 7
    head.append(size)
    return bytes(head)


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number of variable length, and where it ends."""
    value = shift = 0
    for byte in data[at : at + _VARINT_BYTES]:
        at += 1
        value |= (byte & 127) << shift
        if byte < _MORE:
            return value, at
        shift += 7
    raise RequestError("the message ends inside a number")
