"""Limits how many streams of requests are open: each may hold a message whose last bytes never come."""

from __future__ import annotations

import time
from collections.abc import Callable

from cpuserve.errors import QueueFull

__all__ = ["OpenStreams"]

_RETRY_S = 1.0


class OpenStreams:
    """The open streams of a worker; one too many ends the one that has been idle longest.

    Args:
        most: that may be open.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._idle_since: dict[Callable[[], None], float | None] = {}

    def add(self, end: Callable[[], None]) -> None:
        """Add a stream, for which another one may be ended.

        Args:
            end: ends it; tells it apart from others.

        Raises:
            QueueFull: there are too many, and none is idle.
        """
        if len(self._idle_since) >= self._most:
            idle = {one: since for one, since in self._idle_since.items() if since is not None}
            if not idle:
                raise QueueFull(
                    f"{self._most} streams are open in this worker, all of them at work", _RETRY_S
                )
            longest = min(idle, key=lambda one: idle[one])
            self.remove(longest)
            longest()
        self._idle_since[end] = None

    def idle(self, end: Callable[[], None]) -> None:
        """Note that a stream has answered all it was asked."""
        if end in self._idle_since:
            self._idle_since[end] = time.monotonic()

    def at_work(self, end: Callable[[], None]) -> None:
        """Note that a stream has a request."""
        if end in self._idle_since:
            self._idle_since[end] = None

    def remove(self, end: Callable[[], None]) -> None:
        """Forget a stream that is ended, or about to end."""
        self._idle_since.pop(end, None)
