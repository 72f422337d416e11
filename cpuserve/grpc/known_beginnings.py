"""Knows how the latest messages began, up to their values: `KnownBeginnings`."""

from __future__ import annotations

from typing import Generic, TypeVar

from cpuserve.errors import RequestError
from cpuserve.grpc.wire import field_value

__all__ = ["KnownBeginnings"]

_KEPT, _KEPT_BYTES = 8, 4096  # how many are kept, and how long they may be
T = TypeVar("T")


class KnownBeginnings(Generic[T]):
    """What was read of the beginnings of messages whose last field is one of bytes.

    A client sends the same beginning again and again, and other values: these are found without reading it.
    All functions may be called by several threads.

    Args:
        last: the number of that field, below 16.
    """

    def __init__(self, last: int) -> None:
        self._last = last
        self._known: tuple[tuple[bytes, T], ...] = ()  # the newest first

    def find(self, message: bytes) -> tuple[T, memoryview] | None:
        """What was kept for the beginning of a message, and its last field; None for one that is new."""
        for beginning, kept in self._known:
            if message.startswith(beginning):
                try:
                    value = field_value(memoryview(message), len(beginning), self._last)
                except RequestError:
                    return None  # whoever reads all of it says why
                return None if value is None else (kept, value)
        return None

    def keep(self, beginning: bytes, kept: T) -> None:
        """Keep what a message without its last field says, unless that is long."""
        if len(beginning) <= _KEPT_BYTES:
            self._known = ((beginning, kept), *self._known[: _KEPT - 1])
