"""The workers of a job on Ray: a process in each seat of each node, while nodes come and go."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cpuserve.batch.ray_hosts import HostEnded, HostNews
from cpuserve.batch.work_units import WorkUnit
from cpuserve.batch.worker_task import LoadedModel, UnitNews
from cpuserve.batch.workers import Answered, WorkerLost, check_model
from cpuserve.errors import CpuserveError
from cpuserve.machine.placement import Seat

__all__ = ["RayWorkers", "SeatHosts"]

_LOOK_S = 2.0  # between two looks at the nodes
_MOST_FAILED_STARTS = 3  # in a row, on one node
_NOBODY_S = 180.0  # without any worker


class SeatHosts(Protocol):
    """Starts processes in the seats of nodes, and hears them; see `cpuserve.batch.ray_hosts.RayHosts`."""

    def nodes(self) -> Mapping[str, float]:
        """How many CPUs each node has, by its name."""

    def seats(self, node: str) -> Sequence[Seat]:
        """The seats of a node; empty where it does not answer."""

    def start(self, node: str, seat: Seat, cpus: float) -> Any:
        """A host in a seat."""

    def give(self, host: Any, unit: WorkUnit) -> None:
        """Have a host answer a unit."""

    def ask(self, host: Any) -> Any:
        """Ask a host for news; a ticket for `heard`."""

    def heard(self, tickets: Sequence[Any], timeout_s: float) -> Mapping[Any, Sequence[HostNews]]:
        """The news that are there, waited for, by ticket."""

    def end(self, host: Any) -> None:
        """End a host."""


@dataclass
class _HostedWorker:
    """A host, and what it was asked."""

    host: Any
    node: str
    seat: Seat
    ticket: Any
    ready: bool = False


class RayWorkers:
    """Processes in the seats of Ray's nodes; see `BatchWorkers`.

    A worker whose process or actor ends is replaced as long as its node is there. A node that comes gets
    workers.

    Attributes:
        loaded: see `BatchWorkers`.

    Args:
        hosts: starts them.
        wanted: the model of the job, with its precision where that is known.
    """

    def __init__(self, hosts: SeatHosts, wanted: LoadedModel) -> None:
        self._hosts, self.loaded = hosts, wanted
        self._workers: dict[int, _HostedWorker] = {}
        self._seats: dict[str, Sequence[Seat]] = {}
        self._cpus: Mapping[str, float] = {}
        self._failed_starts: dict[str, int] = {}
        self._started = 0
        self._looked = -_LOOK_S
        self._alive = time.monotonic()  # when there was a worker last
        self._look()

    def ready(self) -> Sequence[int]:
        """See `BatchWorkers.ready`."""
        return [number for number, worker in self._workers.items() if worker.ready]

    def give(self, worker: int, unit: WorkUnit) -> None:
        """See `BatchWorkers.give`."""
        self._hosts.give(self._workers[worker].host, unit)

    def news(self, timeout_s: float) -> Sequence[Answered | WorkerLost]:
        """See `BatchWorkers.news`."""
        self._look()
        if self.ready():
            self._alive = time.monotonic()
        elif time.monotonic() - self._alive >= _NOBODY_S:
            raise CpuserveError(
                f"no worker was there for {_NOBODY_S:g} s: see whether Ray has nodes with free CPUs "
                "(`ray status`)"
            )
        tickets = {worker.ticket: number for number, worker in self._workers.items()}
        told: list[Answered | WorkerLost] = []
        for ticket, news in self._hosts.heard([*tickets], timeout_s).items():
            told += self._told(tickets[ticket], news)
        return told

    def close(self) -> None:
        """See `BatchWorkers.close`."""
        for worker in self._workers.values():
            self._hosts.end(worker.host)
        self._workers = {}

    def _look(self) -> None:
        """Start workers on seats that have none; those of nodes that are gone are told by their hosts."""
        if time.monotonic() - self._looked < _LOOK_S:
            return
        self._looked = time.monotonic()
        self._cpus = self._hosts.nodes()
        for node in self._cpus:
            if not self._seats.get(node):
                self._seats[node] = self._hosts.seats(node)
            taken = {worker.seat.index for worker in self._workers.values() if worker.node == node}
            for seat in self._seats[node]:
                if seat.index not in taken:
                    self._start(node, seat)

    def _start(self, node: str, seat: Seat) -> None:
        share = self._cpus[node] // len(self._seats[node])
        host = self._hosts.start(node, seat, min(share, float(seat.threads)))
        self._workers[self._started] = _HostedWorker(host, node, seat, self._hosts.ask(host))
        self._started += 1

    def _told(self, number: int, news: Sequence[HostNews]) -> list[Answered | WorkerLost]:
        worker = self._workers[number]
        told: list[Answered | WorkerLost] = []
        for one in news:
            if isinstance(one, HostEnded):
                return [*told, self._lost(number, one)]
            if isinstance(one, LoadedModel):
                check_model(self.loaded, one, f"the worker of seat {worker.seat.index} on {worker.node[:8]}")
                self.loaded, worker.ready = one, True
                self._failed_starts[worker.node] = 0
            elif isinstance(one, UnitNews):
                told.append(Answered(number, one))
        worker.ticket = self._hosts.ask(worker.host)
        return told

    def _lost(self, number: int, ended: HostEnded) -> WorkerLost:
        """Replace a worker that has ended.

        Raises:
            CpuserveError: it says itself why it cannot work, or several in a row could not load the model.
        """
        worker = self._workers.pop(number)
        self._hosts.end(worker.host)
        if ended.error is not None:
            raise ended.error
        if worker.node not in self._hosts.nodes():
            return WorkerLost(number, f"node {worker.node[:8]} is gone: {ended.reason}", suspect=False)
        if not worker.ready:
            failed = self._failed_starts[worker.node] = self._failed_starts.get(worker.node, 0) + 1
            if failed >= _MOST_FAILED_STARTS:
                raise CpuserveError(
                    f"{ended.reason}, {failed} times on node {worker.node[:8]} before it had loaded the model"
                )
        self._start(worker.node, worker.seat)
        return WorkerLost(number, ended.reason, suspect=not ended.outside)
