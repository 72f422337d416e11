"""The account of a recording: where latency and CPU go, what limits the throughput; it gives no advice."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cpuserve.profiling.busy import Busy, Window
from cpuserve.profiling.capacity import Capacity
from cpuserve.profiling.cpu import CpuSplit
from cpuserve.profiling.latency import Latency
from cpuserve.profiling.recording import Recording

__all__ = ["Account", "account"]


@dataclass(frozen=True)
class Account:
    """All sums over one recording.

    Attributes:
        window: the time they are over.
        latency: where it goes.
        cpu: where it goes.
        capacity: what limits.
        threads: how busy each was, most CPU time first.
    """

    window: Window
    latency: Latency
    cpu: CpuSplit
    capacity: Capacity
    threads: tuple[Busy, ...]

    @property
    def accounted_share(self) -> float:
        """The stages' sum over the measured latency."""
        return self.latency.accounted_share

    def to_json(self) -> dict[str, Any]:
        """Fit for JSON."""
        return {
            "accounted_share": round(self.accounted_share, 4),
            "latency": asdict(self.latency),
            "cpu": self.cpu.to_json(),
            "capacity": asdict(self.capacity),
        }


def account(recording: Recording) -> Account:
    """Add everything up."""
    window = Window.of(recording)
    threads = sorted((Busy.of(track, window) for track in recording.threads), key=lambda one: -one.cpu_s)
    return Account(
        window=window,
        latency=Latency.of(recording),
        cpu=CpuSplit.of(recording, window),
        capacity=Capacity.of(recording, window),
        threads=tuple(threads),
    )
