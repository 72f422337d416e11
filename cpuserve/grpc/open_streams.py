"""Limits how many streams of requests are open: each may hold a message whose last bytes never come."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from cpuserve.errors import QueueFull

__all__ = ["OpenStreams"]

_RETRY_S = 1.0


class OpenStreams:
    """The open streams of a worker; one too many ends the one that has been idle longest.

    It ends one of the client that has most: whoever opens many does not end those of others.

    Args:
        most: that may be open.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._clients: dict[Callable[[], None], str] = {}
        self._idle_since: dict[Callable[[], None], float] = {}  # of those that are not at work

    def add(self, end: Callable[[], None], client: str) -> None:
        """Add a stream, for which another one may be ended.

        Args:
            end: ends it; tells it apart from others.
            client: whose it is.

        Raises:
            QueueFull: there are too many, and none that is idle may be ended for it.
        """
        if len(self._clients) >= self._most:
            counts = Counter(self._clients.values())
            able = [
                one
                for one in self._idle_since
                if counts[self._clients[one]] > counts[client] or self._clients[one] == client
            ]
            if not able:
                raise QueueFull(
                    f"{self._most} streams are open in this worker, and those that could make room are all "
                    "at work",
                    _RETRY_S,
                )
            longest = min(able, key=lambda one: (-counts[self._clients[one]], self._idle_since[one]))
            self.remove(longest)
            longest()
        self._clients[end] = client

    def idle(self, end: Callable[[], None]) -> None:
        """Note that a stream has answered all it was asked."""
        if end in self._clients:
            self._idle_since[end] = time.monotonic()

    def at_work(self, end: Callable[[], None]) -> None:
        """Note that a stream has a request."""
        self._idle_since.pop(end, None)

    def remove(self, end: Callable[[], None]) -> None:
        """Forget a stream that is ended, or about to end."""
        self._clients.pop(end, None)
        self._idle_since.pop(end, None)
