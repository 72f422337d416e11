"""gunicorn's arbiter: no worker is killed because the machine stood still, and none misses a signal."""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import Any

from gunicorn.arbiter import Arbiter

__all__ = ["SparingArbiter", "take_signals"]

_log = logging.getLogger("cpuserve.server")
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_PAUSE_S = 5.0  # the arbiter looks at its workers every second; after more than that it stood still itself


def take_signals() -> None:
    """Let a process that was just forked end at once when it is told to; nothing is begun in it yet.

    Until gunicorn sets up the worker's handlers it has the arbiter's, which only remember a signal for a loop
    that does not run in the worker.
    """
    for number in _ENDING:
        signal.signal(number, lambda *_: os._exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)


class SparingArbiter(Arbiter):  # type: ignore[misc]  # gunicorn has no type hints
    """An arbiter that gives its workers a whole timeout again after it was stopped itself.

    A virtual machine that is frozen, or a container that is paused, stops arbiter and workers alike. Their
    heartbeats are old when they go on, which says nothing about them.
    """

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self._looked = self._spared_until = time.monotonic()

    def spawn_worker(self) -> int:
        """Fork a worker; a signal that comes before it has handlers of its own waits for `take_signals`."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        try:
            pid: int = super().spawn_worker()
            # so that its row is cleared however early it ends; else it would be taken for one that loads
            self.WORKERS[pid].row.pid = pid
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        return pid

    def murder_workers(self) -> None:
        """Kill workers whose heartbeat is older than the timeout, unless the arbiter has stood still."""
        now = time.monotonic()
        if now - self._looked > _PAUSE_S:
            self._spared_until = now + self.timeout
            _log.warning("this process stood still for %.0f s: heartbeats count anew", now - self._looked)
        self._looked = now
        if now >= self._spared_until:
            super().murder_workers()
