"""gunicorn's arbiter, which kills no worker because the whole machine stood still."""

from __future__ import annotations

import logging
import time
from typing import Any

from gunicorn.arbiter import Arbiter

__all__ = ["SparingArbiter"]

_log = logging.getLogger("cpuserve.server")
_PAUSE_S = 5.0  # the arbiter looks at its workers every second; after more than that it stood still itself


class SparingArbiter(Arbiter):  # type: ignore[misc]  # gunicorn has no type hints
    """An arbiter that gives its workers a whole timeout again after it was stopped itself.

    A virtual machine that is frozen, or a container that is paused, stops arbiter and workers alike. Their
    heartbeats are old when they go on, which says nothing about them.
    """

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self._looked = self._spared_until = time.monotonic()

    def murder_workers(self) -> None:
        """Kill workers whose heartbeat is older than the timeout, unless the arbiter has stood still."""
        now = time.monotonic()
        if now - self._looked > _PAUSE_S:
            self._spared_until = now + self.timeout
            _log.warning("this process stood still for %.0f s: heartbeats count anew", now - self._looked)
        self._looked = now
        if now >= self._spared_until:
            super().murder_workers()
