"""Reads the tables of a flatbuffer by the numbers of their fields, without its schema."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Self

__all__ = ["FlatTable"]


@dataclass(frozen=True)
class FlatTable:
    """A table in a flatbuffer. Whatever a damaged buffer says, nothing outside of it is read.

    Every method raises ``struct.error`` or ``IndexError`` where the buffer is damaged.

    Attributes:
        data: the whole buffer.
        at: where the table begins.
    """

    data: bytes
    at: int

    @classmethod
    def root(cls, data: bytes) -> Self:
        """The root table of a buffer."""
        return cls(data, *struct.unpack_from("<I", data))

    def number(self, field: int, form: str = "<b") -> int:
        """A number, 0 where the field is missing; ``form`` is that of `struct`."""
        place = self._place(field)
        return int(struct.unpack_from(form, self.data, place)[0]) if place else 0

    def text(self, field: int) -> str:
        """A string, empty where the field is missing."""
        return self.content(field).decode(errors="replace")

    def content(self, field: int) -> bytes:
        """A vector of bytes or a string."""
        start, count = self._vector(field)
        found = self.data[start : start + count]
        if len(found) != count:
            raise IndexError(f"a vector of {count} bytes ends behind the buffer")
        return found

    def floats(self, field: int) -> tuple[float, ...]:
        """A vector of 32-bit floats."""
        start, count = self._vector(field)
        return struct.unpack_from(f"<{count}f", self.data, start) if count else ()

    def table(self, field: int) -> FlatTable | None:
        """A table, None where the field is missing."""
        place = self._place(field)
        return FlatTable(self.data, self._target(place)) if place else None

    def tables(self, field: int) -> list[FlatTable]:
        """A vector of tables."""
        start, count = self._vector(field)
        struct.unpack_from(f"<{count}I", self.data, start)  # as many are there
        return [FlatTable(self.data, self._target(start + 4 * place)) for place in range(count)]

    def _place(self, field: int) -> int:
        """Where a field is, 0 for a missing one: the table points to a list of offsets by field number."""
        (back,) = struct.unpack_from("<i", self.data, self.at)
        offsets = self.at - back
        if offsets < 0:
            raise IndexError("a table points in front of the buffer")
        (size,) = struct.unpack_from("<H", self.data, offsets)
        if 4 + 2 * field >= size:
            return 0
        (offset,) = struct.unpack_from("<H", self.data, offsets + 4 + 2 * field)
        return self.at + offset if offset else 0

    def _target(self, place: int) -> int:
        return place + int(struct.unpack_from("<I", self.data, place)[0])

    def _vector(self, field: int) -> tuple[int, int]:
        """Where the first element of a vector is, and how many there are."""
        place = self._place(field)
        if not place:
            return 0, 0
        start = self._target(place)
        return start + 4, int(struct.unpack_from("<I", self.data, start)[0])
