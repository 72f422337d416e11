"""Walks the fields of a protobuf message in a file by their numbers, without its schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

__all__ = ["ProtobufField", "fields", "size_of"]

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_CUT_OFF = 1 << 63  # nothing can be as long
_SIZES = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}


class ProtobufField(NamedTuple):
    """The place of one field in the file.

    Attributes:
        number: as the .proto file has it; 0 for bytes that are not a field.
        start: of its bytes in the file.
        end: behind them; the same as ``start`` for a number, which is in ``value``.
        value: of a field that is a whole number.
    """

    number: int
    start: int
    end: int
    value: int = 0


def size_of(file: BinaryIO) -> int:
    """The number of bytes in a file."""
    return file.seek(0, 2)


def fields(file: BinaryIO, start: int, end: int) -> Iterator[ProtobufField]:
    """The fields of the message between two places.

    The last may end behind ``end`` if the message was cut off. Bytes that are not a field end the walk.
    """
    at = start
    while at < end:
        file.seek(at)
        key, at = _varint(file, at, end)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, after = _varint(file, at, end)
            yield ProtobufField(number, at, at, value)
            at = after
            continue
        if wire == _BYTES:
            size, at = _varint(file, at, end)
        elif wire in _SIZES:
            size = _SIZES[wire]
        else:
            yield ProtobufField(0, at, at)
            return
        yield ProtobufField(number, at, at + size)
        at += size


def _varint(file: BinaryIO, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 64:
        read = file.read(1)
        if not read:
            break
        at += 1
        value |= (read[0] & 127) << shift
        if read[0] < 128:
            return value, at
        shift += 7
    return _CUT_OFF, at
