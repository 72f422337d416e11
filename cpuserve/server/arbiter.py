"""gunicorn's arbiter with three changes.

It tolerates pauses of the machine, new workers miss no signal, and Ctrl-C is as orderly as SIGTERM.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from contextlib import suppress
from typing import Any

from gunicorn.arbiter import Arbiter

__all__ = ["PauseTolerantArbiter", "end_on_signals"]

_log = logging.getLogger("cpuserve.server")
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_INTERRUPTED = 130
_PAUSE_S = 5.0  # the arbiter looks at its workers every second; after more than that it was stopped itself


def end_on_signals() -> None:
    """Let a worker that was just forked end at once on a signal that ends it.

    Until gunicorn sets the worker's handlers it has the arbiter's, which only remember a signal for a loop
    that does not run in the worker. Ctrl-C, which a terminal sends to every process, is for the arbiter.
    """
    for number in _ENDING:
        signal.signal(number, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)


class PauseTolerantArbiter(Arbiter):  # type: ignore[misc]  # gunicorn has no type hints
    """An arbiter that gives its workers a whole timeout again after it was stopped itself.

    A frozen virtual machine or a paused container stops arbiter and workers alike. Afterwards the workers'
    heartbeats are old, although nothing is wrong with them.
    """

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self._looked = self._kill_none_until = time.monotonic()
        self._interrupted = False

    def spawn_worker(self) -> int:
        """Fork a worker; signals to it wait until it calls `end_on_signals`."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        try:
            pid: int = super().spawn_worker()
            # so that its row is cleared however early it ends; else the worker would seem to be loading
            self.WORKERS[pid].row.pid = pid
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        return pid

    def handle_int(self) -> None:
        """Ctrl-C: end in order; a second one ends what is not finished."""
        self._interrupted = True
        raise StopIteration

    def halt(self, reason: str | None = None, exit_status: int = 0) -> None:
        """Stop the workers and end the process, with 130 after Ctrl-C."""
        with suppress(SystemExit):
            super().halt(reason, exit_status)
        sys.exit(exit_status or (_INTERRUPTED if self._interrupted else 0))

    def murder_workers(self) -> None:
        """Kill workers whose heartbeat is older than the timeout, unless the arbiter was stopped."""
        now = time.monotonic()
        if now - self._looked > _PAUSE_S:
            self._kill_none_until = now + self.timeout
            _log.warning("this process stood still for %.0f s: heartbeats count anew", now - self._looked)
        self._looked = now
        if now >= self._kill_none_until:
            super().murder_workers()
