"""Ends calls whose clients do not read their answers: these stay in memory until they are read."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Protocol

__all__ = ["SlowReaders"]

_AT_ONCE = 64 << 10  # bytes that most clients take without reading: their first window
_BYTES_A_SECOND = 64 << 10


class Sender(Protocol):
    """A call that may have an answer under way.

    Attributes:
        answering: whether it has one.
    """

    @property
    def answering(self) -> bool:
        """See above."""

    def cancel(self) -> None:
        """Cut it off."""


class SlowReaders:
    """Gives answers their time: as long as a request may take to come, and a second for every 64 KiB.

    Args:
        timeout_s: seconds that a request may take to come.

    Attributes:
        due: when `look` is to be called, on the clock of `time.monotonic`.
    """

    def __init__(self, timeout_s: float) -> None:
        self.due = math.inf
        self._timeout_s = timeout_s
        self._due: dict[Sender, float] = {}

    def begin(self, sender: Sender, size: int) -> None:
        """Note that an answer is under way; any thread may call this.

        Args:
            sender: whose answer.
            size: its bytes.
        """
        if size > _AT_ONCE:
            due = time.monotonic() + self._timeout_s + size / _BYTES_A_SECOND
            self._due[sender] = due
            self.due = min(self.due, due)

    def find(self, senders: Iterable[Sender]) -> None:
        """Give also small answers their time, from when they are found to be under way.

        Nearly all are sent at once, unless a client has a window of 0: so `begin` does not note them.
        """
        due = time.monotonic() + self._timeout_s
        for sender in senders:
            if sender.answering and sender not in self._due:
                self._due.setdefault(sender, due)
                self.due = min(self.due, due)

    def end(self, sender: Sender) -> None:
        """Note that it is sent, or the call over."""
        self._due.pop(sender, None)

    def look(self) -> None:
        """Cut off what has taken too long."""
        now = time.monotonic()
        for sender, due in tuple(self._due.items()):
            if due <= now:
                self.end(sender)
                sender.cancel()
        self.due = min(self._due.values(), default=math.inf)
