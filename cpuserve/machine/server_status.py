"""Who sits where by a server's own word; what the kernel says of it is another matter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cpuserve.machine.cgroup import ThrottlingSample
from cpuserve.machine.files import format_cpulist, parse_cpulist
from cpuserve.machine.placement import Seat, SeatPlan

__all__ = ["SUSPENDED", "ServerStatus", "WorkerStatus", "describe_server", "seat_to_json"]

SUSPENDED = "suspended"
"""The state of a worker that was ready and does not run."""


@dataclass(frozen=True)
class WorkerStatus:
    """One seat's worker.

    Attributes:
        seat: the seat's number.
        pid: its process; 0 when nobody sits there.
        state: ``empty``, ``loading``, ``ready``, ``suspended`` or ``stopping``.
    """

    seat: int
    pid: int
    state: str


@dataclass(frozen=True)
class ServerStatus:
    """A running server.

    Attributes:
        pid: the arbiter.
        address: where it listens, ``host:port``.
        seats: as planned at its start.
        notes: what the plan had to say.
        threads: compute threads of all workers together.
        start: the throttling counters at its start.
        workers: one a seat.
        others: processes of it that sit in a seat together with another worker.
        preset: what it says of its tuned settings; None where it looked for none.
    """

    pid: int
    address: str
    seats: tuple[Seat, ...]
    notes: tuple[str, ...]
    threads: int
    start: ThrottlingSample
    workers: tuple[WorkerStatus, ...]
    others: tuple[int, ...] = ()
    preset: Mapping[str, Any] | None = None

    @classmethod
    def from_description(
        cls, content: Mapping[str, Any], pid: int, workers: Iterable[WorkerStatus], others: Iterable[int] = ()
    ) -> ServerStatus:
        """Join what the arbiter wrote at its start (`about`) with who works now."""
        return cls(
            pid,
            content["address"],
            tuple(Seat(**{**seat, "cpus": parse_cpulist(seat["cpus"])}) for seat in content["seats"]),
            tuple(content["notes"]),
            content["threads"],
            ThrottlingSample.from_json(content["start"]),
            tuple(workers),
            tuple(others),
            content.get("preset"),
        )


def describe_server(
    plan: SeatPlan,
    *,
    pid: int,
    address: str,
    threads: int | None,
    start: ThrottlingSample,
    preset: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What an arbiter writes of itself, fit for JSON.

    Args:
        plan: its seats.
        pid: its process.
        address: where it listens.
        threads: compute threads a worker, where the user gave a number.
        start: the throttling counters now.
        preset: what there is to say of its tuned settings.
    """
    return {
        "pid": pid,
        "address": address,
        "seats": [seat_to_json(seat) for seat in plan.seats],
        "notes": list(plan.notes),
        "threads": sum(threads or seat.threads for seat in plan.seats),
        "start": start.to_json(),
        "preset": preset,
    }


def seat_to_json(seat: Seat) -> dict[str, Any]:
    """A seat, fit for JSON; CPUs in the kernel's list form."""
    return asdict(seat) | {"cpus": format_cpulist(seat.cpus)}
