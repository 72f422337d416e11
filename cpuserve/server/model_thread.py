"""The thread of a worker that loads its models, marks the worker ready, and reloads models that change."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from cpuserve.machine.files import format_cpulist
from cpuserve.machine.process_controls import block_signals, show_thread_name
from cpuserve.serving.stages import LOADER_THREAD
from cpuserve.serving.statistics import Statistics
from cpuserve.serving.worker_table import LOADING, READY, WorkerRow

if TYPE_CHECKING:
    from cpuserve.serving.pool import Pool

__all__ = ["ModelThread"]

_log = logging.getLogger("cpuserve.server")


class ModelThread(threading.Thread):
    """Loads models; meanwhile the main thread tells the arbiter that the worker lives.

    Args:
        pool: the worker's models.
        row: the worker's row in the worker table.
        statistics: the server's.
        statistics_row: the worker's row in them.
        address: where the worker answers, for the log.
        ending: set when the worker ends.
        start_transports: called once before the worker is ready, when it can answer.
    """

    def __init__(
        self,
        pool: Pool,
        row: WorkerRow,
        statistics: Statistics,
        statistics_row: int,
        address: str,
        ending: threading.Event,
        start_transports: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(name=LOADER_THREAD, daemon=True)
        self._pool = pool
        self._row = row
        self._statistics = statistics
        self._statistics_row = statistics_row
        self._address = address
        self._ending = ending
        self._start_transports = start_transports

    def run(self) -> None:
        """Load all models, then watch the repository until the worker ends."""
        show_thread_name()
        block_signals()
        try:
            self._pool.start(self._ending)
            self._statistics.settle(self._statistics_row)
            self._mark_ready()
            self._pool.watch(self._ending, self._mark_ready)
        except BaseException:
            _log.critical("models are loaded no longer, this worker is not ready", exc_info=True)
            raise
        finally:
            self._pool.dead = True

    def _mark_ready(self) -> None:
        """Let the worker accept connections once it has a model, if any is asked for.

        Until then its predecessor serves.
        """
        row, pool = self._row, self._pool
        if row.pid != os.getpid() or row.state != LOADING or not (pool.models or pool.ready):
            return
        self._start_transports()
        row.state = READY
        _log.info(
            "worker in seat %d (CPUs %s) %s at http://%s",
            row.seat,
            format_cpulist(os.sched_getaffinity(0)),
            "ready" if pool.ready else "up, with models that are not ready,",
            self._address,
        )
