"""Processes in the seats of Ray's nodes, each behind an actor that passes units and rows on."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from cpuserve.batch.work_units import WorkUnit
from cpuserve.batch.worker_task import BatchTask, LoadedModel, UnitNews
from cpuserve.cluster.ray_cluster import on_node
from cpuserve.errors import CpuserveError
from cpuserve.machine.placement import Seat
from cpuserve.settings import Settings
from cpuserve.video.seats import SeatProcess, plan_video_seats

__all__ = ["HostEnded", "HostNews", "RayHosts"]

_SEATS_S = 30.0
_ACTOR_CALLS = 3  # one waits for news, one gives a unit, one more so that neither has to wait for the other


@dataclass(frozen=True)
class HostEnded:
    """The process in a seat has ended.

    Attributes:
        reason: how.
        error: what it said itself; None where it was killed.
        outside: whether its actor or node ended, not the process that answers.
    """

    reason: str
    error: CpuserveError | None = None
    outside: bool = False


HostNews = LoadedModel | UnitNews | HostEnded


class SeatHost:
    """A Ray actor with the process of a seat.

    The process is started in its seat, since an actor that has loaded anything cannot be bound any more.
    """

    def __init__(self, seat: Seat, task: BatchTask) -> None:
        self._started = threading.Event()
        self._process: SeatProcess | None = None

        def start() -> None:
            self._process = SeatProcess(seat, task)
            self._started.set()
            threading.Event().wait()  # the kernel ends the process with the thread that has started it

        threading.Thread(target=start, name="seat", daemon=True).start()

    def give(self, unit: WorkUnit) -> None:
        """Have a unit answered; that the process has ended is told by `news`."""
        with suppress(OSError):
            self._here.words.send(unit)

    def news(self) -> list[HostNews]:
        """What the process has said since, waited for."""
        process, told = self._here, []
        try:
            told.append(process.words.recv())
            while process.words.poll():
                told.append(process.words.recv())
        except (EOFError, OSError):
            told.append(HostEnded(process.ending()))
        return [HostEnded(str(one), one) if isinstance(one, CpuserveError) else one for one in told]

    @property
    def _here(self) -> SeatProcess:
        self._started.wait()
        if self._process is None:
            raise CpuserveError("the process of the seat was not started")
        return self._process


class RayHosts:
    """Starts hosts on Ray's nodes, and hears them.

    Args:
        ray: connected.
        task: of each.
    """

    def __init__(self, ray: Any, task: BatchTask) -> None:
        self._ray, self._task = ray, task

    def nodes(self) -> Mapping[str, float]:
        """How many CPUs Ray counts on each node that is alive, by its name."""
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        return {node["NodeID"]: float(node["Resources"].get("CPU", 0)) for node in nodes}

    def seats(self, node: str) -> Sequence[Seat]:
        """The seats of a node; empty where it does not answer.

        Raises:
            CpuserveError: the settings do not fit it.
        """
        task = self._ray.remote(_seats_here).options(**on_node(node))
        try:
            found: Sequence[Seat] | CpuserveError = self._ray.get(
                task.remote(self._task.settings), timeout=_SEATS_S
            )
        except self._ray.exceptions.RayError:
            return []
        if isinstance(found, CpuserveError):
            raise found
        return found

    def start(self, node: str, seat: Seat, cpus: float) -> Any:
        """A host in a seat.

        Args:
            node: its node.
            seat: of the node.
            cpus: that Ray is to count as taken.
        """
        options = {**on_node(node), "num_cpus": cpus, "max_restarts": 0, "max_concurrency": _ACTOR_CALLS}
        return self._ray.remote(SeatHost).options(**options).remote(seat, self._task)

    def give(self, host: Any, unit: WorkUnit) -> None:
        """Have a host answer a unit."""
        host.give.remote(replace(unit))

    def ask(self, host: Any) -> Any:
        """Ask a host for news; a ticket for `heard`."""
        return host.news.remote()

    def heard(self, tickets: Sequence[Any], timeout_s: float) -> dict[Any, list[HostNews]]:
        """The news that are there, waited for, by ticket."""
        if not tickets:
            threading.Event().wait(timeout_s)
            return {}
        ready, _ = self._ray.wait([*tickets], num_returns=1, timeout=timeout_s)
        if len(tickets) > 1 and ready:
            ready, _ = self._ray.wait([*tickets], num_returns=len(tickets), timeout=0)
        found: dict[Any, list[HostNews]] = {}
        for ticket in ready:
            try:
                found[ticket] = self._ray.get(ticket)
            except self._ray.exceptions.RayError as error:
                lines = str(error).strip().splitlines() or [type(error).__name__]
                found[ticket] = [HostEnded(f"the actor of a worker has ended: {lines[0]}", outside=True)]
        return found

    def end(self, host: Any) -> None:
        """End a host."""
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(host)


def _seats_here(settings: Settings) -> Sequence[Seat] | CpuserveError:
    try:
        return plan_video_seats(settings).seats
    except CpuserveError as error:
        return error
