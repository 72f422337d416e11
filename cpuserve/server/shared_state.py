"""The shared memory of one server, which the arbiter makes before it forks and all workers use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cpuserve.http.mailbox import Mailboxes
from cpuserve.protocols.deepdetect_names import DeepDetectNames
from cpuserve.protocols.rate_limit import RateLimit
from cpuserve.protocols.shared_memory import SharedMemory
from cpuserve.serving.log import LogSwitches
from cpuserve.serving.reload_control import ReloadControl
from cpuserve.serving.statistics import Statistics
from cpuserve.serving.trace_ring import TraceRing
from cpuserve.serving.worker_table import WorkerTable
from cpuserve.settings import Settings

__all__ = ["SharedState"]


@dataclass(frozen=True)
class SharedState:
    """The shared memory of one server.

    Attributes:
        worker_table: seat, state and connections of each worker.
        mailboxes: requests that one worker leaves for another; one a row of the worker table.
        reload_control: which versions each worker has loaded, and who loads next.
        statistics: counters of each worker.
        trace_ring: traced requests of each worker.
        rate_limit: requests of each client.
        log_switches: what is logged.
        deepdetect_names: DeepDetect's names of models.
        shared_memory: regions of clients; None where none are allowed.
    """

    worker_table: WorkerTable
    mailboxes: Mailboxes
    reload_control: ReloadControl
    statistics: Statistics
    trace_ring: TraceRing
    rate_limit: RateLimit
    log_switches: LogSwitches
    deepdetect_names: DeepDetectNames
    shared_memory: SharedMemory | None

    @classmethod
    def make(cls, settings: Settings, seats: int, description: Mapping[str, Any]) -> SharedState:
        """Make all of it.

        Args:
            settings: the settings in force.
            seats: how many there are.
            description: the server's, for the worker table.

        Raises:
            UsageError: the description is too long, or the prefix of shared memory cannot be used.
        """
        rows = 3 * seats + 1  # a reload has two generations of workers, and another may come meanwhile
        table = WorkerTable(seats, description)
        return cls(
            worker_table=table,
            mailboxes=Mailboxes(len(table.rows)),
            reload_control=ReloadControl(rows=rows),
            statistics=Statistics(rows=rows),
            trace_ring=TraceRing(rows=rows),
            rate_limit=RateLimit(settings.rate_limit, settings.rate_burst),
            log_switches=LogSwitches(settings.log_level),
            deepdetect_names=DeepDetectNames(),
            shared_memory=SharedMemory(settings.shared_memory_prefix)
            if settings.shared_memory_prefix
            else None,
        )

    def forget(self, pid: int) -> None:
        """Remove the row of a worker that has ended, and the requests left for it."""
        for number, row in enumerate(self.worker_table.rows):
            if row.pid == pid:
                self.mailboxes.empty(number)  # nobody answers these any more: their clients are to know
        self.worker_table.forget(pid)
