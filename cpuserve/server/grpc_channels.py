"""Tells how many gRPC channels reach a worker, and logs when others are reached by none."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

from cpuserve.machine.server_status import unreached_workers
from cpuserve.serving.worker_table import READY, WorkerRow, WorkerTable

__all__ = ["GrpcChannels"]

_log = logging.getLogger("cpuserve.grpc")
_LASTING_S = 10.0  # channels are opened one after the other, and move at a reload


class GrpcChannels:
    """Writes a worker's channels into its row; of all workers with channels, the first logs.

    Args:
        table: of all workers.
        row: this worker's.
        clock: gives seconds.
    """

    def __init__(
        self, table: WorkerTable, row: WorkerRow, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._table = table
        self._row = row
        self._clock = clock
        self._since: float | None = None  # some workers have no channel
        self._said = False

    def tell(self, count: int) -> None:
        """Note how many channels were used in the last minute; called about every second."""
        if self._row.pid != os.getpid():
            return  # the row is another worker's by now
        self._row.grpc_channels = count
        ready = [row for row in self._table.rows if row.state == READY]
        found = unreached_workers([row.grpc_channels for row in ready])
        first = next((row for row in ready if row.grpc_channels), None)
        if found is None or first is not self._row:
            self._since, self._said = None, False
            return
        now = self._clock()
        if self._since is None:
            self._since = now
        if not self._said and now - self._since >= _LASTING_S:
            self._said = True
            _log.warning("%s: %s (docs/protocols.md, gRPC)", *found)
