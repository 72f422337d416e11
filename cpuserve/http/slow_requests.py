"""Runs requests that wait for other processes, such as loading a model, in extra threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from cpuserve.errors import QueueFull
from cpuserve.serving.stages import ADMIN_THREAD

__all__ = ["SlowRequests"]

T = TypeVar("T")
_THREADS = 4
_WAITING = 32
_RETRY_AFTER_S = 5.0


class SlowRequests(Generic[T]):
    """At most four threads, which end when no request waits.

    Args:
        run: what a thread does with a request; it raises nothing.
    """

    def __init__(self, run: Callable[[T], None]) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._waiting: deque[T] = deque()
        self._threads = 0

    def put(self, request: T) -> None:
        """Run a request at once or when a thread is free.

        Raises:
            QueueFull: too many wait already.
        """
        with self._lock:
            if len(self._waiting) >= _WAITING:
                raise QueueFull(
                    f"{_WAITING} requests that load, unload or look at processes are waiting in this worker, "
                    "which is its limit",
                    retry_after_s=_RETRY_AFTER_S,
                )
            self._waiting.append(request)
            if self._threads == _THREADS:
                return
            self._threads += 1
        threading.Thread(target=self._work, name=ADMIN_THREAD, daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._threads -= 1
                    return
                request = self._waiting.popleft()
            self._run(request)
