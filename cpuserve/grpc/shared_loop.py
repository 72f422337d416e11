"""An asyncio loop without a thread of its own: the threads that run requests run it too, one at a time."""

from __future__ import annotations

import asyncio
import math
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    pass

__all__ = ["SharedLoop", "Threads"]


_EVENTS_A_TURN = 32  # looks that find events; then requests that wait have their turn
_MEANWHILE_S = 1.0
_APART_S = 0.001  # what is due at one time may be computed so far apart


class Threads(Protocol):
    """What runs a `SharedLoop`: the threads of a worker."""

    def watch(self, source: SharedLoop) -> None:
        """Call ``source.take`` when its descriptor is readable, and when it is due."""

    def watch_again(self, source: SharedLoop) -> None:
        """Do so once more: a readable descriptor is told of once."""

    def hurry(self) -> None:
        """Look again when it is due: earlier than before."""

    def unwatch(self, source: SharedLoop) -> None:
        """Forget it."""


class SharedLoop:
    """An asyncio loop that any thread runs which finds it ready, for a while at most.

    A loop in a thread of its own would be woken for every event and every answer, and each time take the
    interpreter from the threads that run requests. Here the thread that has an answer sends it itself. It
    looks for no events then: they have their turn among those of other connections, which would else find
    every place taken that an answer makes free.

    Args:
        threads: run it.

    Attributes:
        number: a descriptor that is readable when it is ready; -1 before it begins.
        due: when it is to be run at the latest, on the clock of `time.monotonic`.
        ended: whether it has ended.
    """

    def __init__(self, threads: Threads) -> None:
        self.number = -1
        self.due = math.inf
        self.ended = False
        self._threads = threads
        self._selector = _NeverWaiting()
        self._loop: asyncio.SelectorEventLoop | None = None
        self._main: asyncio.Task[None]
        self._lock = threading.Lock()  # of the thread that runs it
        self._asked = False  # since that thread last looked
        self._told = False  # of a readable descriptor
        self._runner = 0  # the thread that runs it
        self._posted: deque[Callable[[], None]] = deque()

    def start(self, main: Coroutine[Any, Any, None]) -> None:
        """Begin with a coroutine; once it has ended, so has the loop."""
        loop = asyncio.SelectorEventLoop(self._selector)
        self._selector.stop = loop.stop
        self._main = loop.create_task(_and_all_others(main))
        self.number = self._selector.fileno()
        self._threads.watch(self)
        self._loop = loop
        self._take()

    def post(self, function: Callable[[], None]) -> None:
        """Call a function in the loop: at once by this thread, or by the one that runs the loop now.

        Before the beginning it waits for that; after the end it is not called.
        """
        if self._runner == threading.get_ident() and self._loop is not None:
            self._loop.call_soon(function)
            return
        self._posted.append(function)
        self._take()

    def take(self) -> None:
        """Run what is ready; called when the descriptor was readable."""
        self._told = True
        self._take()

    def take_due(self) -> None:
        """Run what is due, unless a thread does: it stays due for as long as nobody does."""
        if not self._lock.locked():
            self._take()

    def _take(self) -> None:
        # who cannot have the lock is heard by its holder, who looks again after letting it go
        self._asked = True
        while self._asked and self._lock.acquire(blocking=False):
            try:
                self._asked = False
                self._run()
            finally:
                self._lock.release()

    def _run(self) -> None:
        loop, posted = self._loop, self._posted
        if self.ended:
            posted.clear()
        if loop is None or self.ended:
            return
        while posted:
            loop.call_soon(posted.popleft())
        before, now = self.due, time.monotonic()
        if before <= now:  # threads that have nothing to do wait meanwhile
            before = self.due = now + _MEANWHILE_S
        looks = self._told
        self._selector.left = _EVENTS_A_TURN if looks else 0
        self._runner = threading.get_ident()
        try:
            loop.run_forever()
        finally:
            self._runner = 0
        if self._main.done():
            self._threads.unwatch(self)
            loop.close()
            self.ended = True
            self._main.result()
            return
        self.due = self._selector.due
        if looks and self._selector.left:  # else the next turn is due anyway
            self._told = False
            self._threads.watch_again(self)
        if self.due < before - _APART_S:
            self._threads.hurry()


class _NeverWaiting(selectors.EpollSelector):
    """Stops the loop where it would wait, or has run long enough.

    Attributes:
        stop: stops the loop.
        left: looks that may find something, before it is stopped too; 0 for no look at all.
        due: until when it would have waited, on the clock of `time.monotonic`.
    """

    stop: Callable[[], None]
    left = 0
    due = math.inf

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now; nothing while functions wait to be called, which go first."""
        if timeout == 0:
            return []
        found = super().select(0) if self.left else []
        self.left -= found != []
        if found and not self.left:
            self.due = time.monotonic()
            self.stop()
        elif not found:
            # a timer that is due by now is run still, and what it makes ready in the next turn, which is due
            self.due = math.inf if timeout is None else time.monotonic() + timeout
            self.stop()
        return found


async def _and_all_others(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine; whatever still runs after it is cancelled, as `asyncio.run` does."""
    try:
        await main
    finally:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.get_running_loop().shutdown_asyncgens()
