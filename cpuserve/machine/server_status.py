"""The status of a running server: what its arbiter published at the start, and the worker of each seat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cpuserve.machine.bind_address import bind_address
from cpuserve.machine.cgroup import ThrottlingSample
from cpuserve.machine.files import format_cpulist, parse_cpulist
from cpuserve.machine.placement import Seat, SeatPlan
from cpuserve.settings import Settings

__all__ = [
    "SUSPENDED",
    "ServerStatus",
    "WorkerStatus",
    "describe_server",
    "seat_to_json",
    "unreached_workers",
]

SUSPENDED = "suspended"
"""The state of a worker that was ready and does not run."""


@dataclass(frozen=True)
class WorkerStatus:
    """The worker of one seat.

    Attributes:
        seat: the seat's number.
        pid: its process; 0 when there is none.
        state: ``empty``, ``loading``, ``ready``, ``suspended`` or ``stopping``.
        grpc_channels: of clients, with a call in the last minute.
    """

    seat: int
    pid: int
    state: str
    grpc_channels: int = 0


@dataclass(frozen=True)
class ServerStatus:
    """A running server.

    Attributes:
        pid: the arbiter.
        address: where it listens, ``host:port``; an address of IPv6 stands in brackets.
        seats: as planned at its start.
        notes: the plan's.
        threads: compute threads of all workers together.
        start: the throttling counters at its start.
        published: its settings, as `Settings.to_json` writes them.
        workers: one a seat.
        others: processes of it that share a seat with another worker.
        preset: which presets it uses; None when it looked for none.
    """

    pid: int
    address: str
    seats: tuple[Seat, ...]
    notes: tuple[str, ...]
    threads: int
    start: ThrottlingSample
    published: Mapping[str, Any]
    workers: tuple[WorkerStatus, ...]
    others: tuple[int, ...] = ()
    preset: Mapping[str, Any] | None = None

    @classmethod
    def from_description(
        cls, content: Mapping[str, Any], pid: int, workers: Iterable[WorkerStatus], others: Iterable[int] = ()
    ) -> ServerStatus:
        """Join what the arbiter published at its start (`describe_server`) with the workers there are now."""
        return cls(
            pid,
            content["address"],
            tuple(Seat(**{**seat, "cpus": parse_cpulist(seat["cpus"])}) for seat in content["seats"]),
            tuple(content["notes"]),
            content["threads"],
            ThrottlingSample.from_json(content["start"]),
            content["settings"],
            tuple(workers),
            tuple(others),
            content.get("preset"),
        )

    @property
    def settings(self) -> Settings:
        """The settings in force.

        Raises:
            UsageError: the server is of another version of cpuserve.
        """
        return Settings.from_json(self.published)


def describe_server(
    plan: SeatPlan,
    settings: Settings,
    *,
    pid: int,
    start: ThrottlingSample,
    preset: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What an arbiter publishes in the worker table, fit for JSON.

    Args:
        plan: its seats.
        settings: those in force.
        pid: its process.
        start: the throttling counters now.
        preset: which presets it uses.
    """
    return {
        "pid": pid,
        "address": bind_address(settings.host, settings.port),
        "seats": [seat_to_json(seat) for seat in plan.seats],
        "notes": list(plan.notes),
        "threads": sum(settings.threads or seat.threads for seat in plan.seats),
        "start": start.to_json(),
        "settings": settings.to_json(),
        "preset": preset,
    }


def seat_to_json(seat: Seat) -> dict[str, Any]:
    """A seat, fit for JSON; CPUs in the kernel's list form."""
    return asdict(seat) | {"cpus": format_cpulist(seat.cpus)}


def unreached_workers(channels: Sequence[int]) -> tuple[str, str] | None:
    """Say that gRPC channels reach some of the workers only, and what to do.

    Args:
        channels: that each ready worker has.

    Returns:
        What was found, and the advice; None where all have some, or none has.
    """
    if all(channels) or not any(channels):
        return None
    text = (
        f"gRPC: {sum(channels)} channels were used in the last minute, {channels.count(0)} of "
        f"{len(channels)} workers have none"
    )
    return text, "a channel lives in one worker: let clients open several for each and take them in turns"
