"""Other transports that the serving threads run beside their connections: `EventSources`."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

__all__ = ["EventSource", "EventSources"]

_READABLE = select.EPOLLIN | select.EPOLLONESHOT


class EventSource(Protocol):
    """A transport that has something to do now and then.

    Attributes:
        number: a descriptor that is readable when it has.
        due: when it has at the latest, on the clock of `time.monotonic`.
    """

    number: int
    due: float

    def take(self) -> None:
        """Do it; called once when the descriptor is readable, until it is watched again."""

    def take_due(self) -> None:
        """Do it; called while it is due, by every thread that looks."""


class EventSources:
    """The sources of one worker; their descriptors are in the epoll instance that its threads share.

    Args:
        epoll: that instance.
        wake: lets an idle thread look again how long it may wait.

    Attributes:
        any: whether there are some.
    """

    def __init__(self, epoll: select.epoll, wake: Callable[[], None]) -> None:
        self._epoll = epoll
        self._sources: dict[int, EventSource] = {}  # is replaced, never changed: threads read it
        self.any = False
        self.hurry = wake

    def watch(self, source: EventSource) -> None:
        """Have a source taken once when its descriptor is readable, and whenever it is due."""
        self._sources = {**self._sources, source.number: source}
        self.any = True
        self._epoll.register(source.number, _READABLE)
        self.hurry()

    def watch_again(self, source: EventSource) -> None:
        """Have it taken once more when its descriptor is readable."""
        self._epoll.modify(source.number, _READABLE)

    def unwatch(self, source: EventSource) -> None:
        """Forget a source, before its descriptor is closed."""
        self._sources = {number: one for number, one in self._sources.items() if one is not source}
        self.any = bool(self._sources)
        with suppress(FileNotFoundError):
            self._epoll.unregister(source.number)

    def find(self, number: int) -> EventSource | None:
        """The source that has a descriptor."""
        return self._sources.get(number)

    def wait_s(self) -> float:
        """Seconds until the first is due; -1 for never."""
        due = min((source.due for source in self._sources.values()), default=math.inf)
        return -1 if due == math.inf else max(0.0, due - time.monotonic())

    def take_due(self, now: float) -> None:
        """Run those that are due."""
        for source in self._sources.values():
            if source.due <= now:
                source.take_due()
