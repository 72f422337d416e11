"""Counts the values of a message that become objects of Python, before they are made."""

from __future__ import annotations

import numpy as np

from cpuserve.errors import TooManyElements
from cpuserve.grpc.wire import BYTES, wire_fields

__all__ = ["ValuesLeft", "packed_numbers"]


class ValuesLeft:
    """How many values the inputs of a message may still bring, all together.

    Args:
        most: that they may bring.
        instead: the field that brings them as bytes.
    """

    __slots__ = ("_instead", "_most", "count")

    def __init__(self, most: int, instead: str) -> None:
        self._most = self.count = most
        self._instead = instead

    def check(self, name: str, count: int, what: str) -> None:
        """Refuse an input that brings too many.

        Args:
            name: of the input.
            count: values that it brings.
            what: they are, and where.

        Raises:
            TooManyElements: they are more than are left.
        """
        if count > self.count:
            raise TooManyElements(
                f"input {name!r}: {count} {what}; all inputs together may have {self._most} "
                f"(setting max_json_elements): send {self._instead}"
            )

    def take(self, name: str, count: int, what: str) -> None:
        """As `check`; an input that is not refused leaves fewer to those after it."""
        self.check(name, count, what)
        self.count -= count


def packed_numbers(contents: memoryview) -> int:
    """How many whole numbers a message of repeated numbers holds, whatever their fields.

    The byte that ends a number has no eighth bit, so it is none below zero.

    Raises:
        RequestError: it is no message, or has too many fields.
    """
    return sum(
        int(np.count_nonzero(np.frombuffer(contents[value:end], np.int8) >= 0)) if wire == BYTES else 1
        for _, wire, _, value, end in wire_fields(contents)
    )
