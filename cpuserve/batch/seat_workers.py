"""The workers of a job on this machine: a process in each seat, replaced when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing.connection import wait
from typing import Any

from cpuserve.batch.work_units import WorkUnit
from cpuserve.batch.worker_task import BatchTask, LoadedModel
from cpuserve.batch.workers import Answered, WorkerLost, check_model
from cpuserve.errors import CpuserveError
from cpuserve.machine.placement import Seat
from cpuserve.video.seats import SeatProcess

__all__ = ["SeatWorkers"]

_MOST_FAILED_STARTS = 3  # in a row, of one seat


class SeatWorkers:
    """Processes in the seats of this machine; see `BatchWorkers`.

    Attributes:
        loaded: see `BatchWorkers`.

    Args:
        seats: where to work.
        task: what each does.
        wanted: the model of the job, with its precision where that is known.
    """

    def __init__(self, seats: Sequence[Seat], task: BatchTask, wanted: LoadedModel) -> None:
        self._task, self.loaded = task, wanted
        self._processes: dict[int, SeatProcess] = {}
        self._ready: set[int] = set()
        self._failed_starts = dict.fromkeys((seat.index for seat in seats), 0)
        self._started = 0
        for seat in seats:
            self._start(seat)

    def ready(self) -> Sequence[int]:
        """See `BatchWorkers.ready`."""
        return sorted(self._ready)

    def give(self, worker: int, unit: WorkUnit) -> None:
        """See `BatchWorkers.give`."""
        try:
            self._processes[worker].words.send(unit)
        except OSError:
            self._ready.discard(worker)  # its end is heard next

    def news(self, timeout_s: float) -> Sequence[Answered | WorkerLost]:
        """See `BatchWorkers.news`."""
        by_words: dict[Any, int] = {process.words: worker for worker, process in self._processes.items()}
        told = [self._told(by_words[words]) for words in wait([*by_words], timeout_s)]
        return [one for one in told if one is not None]

    def pids(self) -> list[int]:
        """The numbers of the processes."""
        return [process.pid for process in self._processes.values()]

    def close(self) -> None:
        """See `BatchWorkers.close`."""
        for process in self._processes.values():
            process.close()
        self._processes, self._ready = {}, set()

    def _start(self, seat: Seat) -> None:
        self._processes[self._started] = SeatProcess(seat, self._task)
        self._started += 1

    def _told(self, worker: int) -> Answered | WorkerLost | None:
        process = self._processes[worker]
        try:
            heard = process.words.recv()
        except (EOFError, OSError):
            return self._lost(worker)
        if isinstance(heard, CpuserveError):
            raise heard
        if isinstance(heard, LoadedModel):
            check_model(self.loaded, heard, f"the worker of seat {process.seat.index}")
            self.loaded = heard
            self._ready.add(worker)
            self._failed_starts[process.seat.index] = 0
            return None
        return Answered(worker, heard)

    def _lost(self, worker: int) -> WorkerLost:
        """Start another process in the seat of one that has ended.

        Raises:
            CpuserveError: none of several could load the model.
        """
        process = self._processes.pop(worker)
        reason, seat = process.ending(), process.seat
        if worker not in self._ready:
            self._failed_starts[seat.index] += 1
            if self._failed_starts[seat.index] >= _MOST_FAILED_STARTS:
                raise CpuserveError(f"{reason}, {_MOST_FAILED_STARTS} times before it had loaded the model")
        self._ready.discard(worker)
        self._start(seat)
        return WorkerLost(worker, reason)
