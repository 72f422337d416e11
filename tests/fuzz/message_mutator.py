"""Changes protobuf messages along their fields, so that lengths around a change are right."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from cpuserve.errors import CpuserveError
from cpuserve.grpc.wire import BYTES, wire_fields

__all__ = ["mutate_message"]

_NUMBERS = (
    0,
    1,
    2,
    63,
    64,
    65,
    1024,
    1025,
    1 << 20,
    (1 << 31) - 1,
    1 << 31,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
)
_DEPTH = 5


def mutate_message(data: bytes, random: Random, change: Callable[[bytes, int], bytes], most: int) -> bytes:
    """A message like ``data`` with one field changed, left out, repeated, moved or put in another's place.

    Args:
        data: any bytes; those that are no message are changed by ``change`` alone.
        random: decides what is changed.
        change: changes the bytes of one field, to at most so many.
        most: bytes of what is given back, about.
    """
    return _changed(data, random, change, most, _DEPTH)


def _changed(
    data: bytes, random: Random, change: Callable[[bytes, int], bytes], most: int, depth: int
) -> bytes:
    try:
        fields = [data[start:end] for _, _, start, _, end in wire_fields(memoryview(data))]
    except CpuserveError:
        return change(data, most)
    if not fields:
        return change(data, most)
    at = random.randrange(len(fields))
    ((_, wire, _, value, _),) = wire_fields(memoryview(fields[at]))
    content = fields[at][value:]
    match random.randrange(8):
        case 0:
            del fields[at]
        case 1:
            fields[at:at] = [fields[at]] * random.choice((1, 2, 70))
        case 2:
            fields.append(fields.pop(at))
        case 3:
            fields[at] = _varint(random.randrange(1, 12) << 3 | wire) + fields[at][len(_key(fields[at])) :]
        case 4 if wire == 0:
            fields[at] = _key(fields[at]) + _varint(random.choice(_NUMBERS))
        case _ if wire == BYTES:
            inner = _changed(content, random, change, most, depth - 1) if depth else change(content, most)
            fields[at] = _key(fields[at]) + _varint(len(inner)) + inner
        case _:
            fields[at] = _key(fields[at]) + change(content, max(1, len(content)))
    return b"".join(fields)


def _key(field: bytes) -> bytes:
    end = next(at for at, byte in enumerate(field) if byte < 128) + 1
    return field[:end]


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])
