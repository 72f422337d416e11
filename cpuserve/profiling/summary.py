"""Sums over one recording: where latency and CPU time go, and what limits the throughput."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cpuserve.profiling.cpu_time import CpuTime
from cpuserve.profiling.latency import Latency
from cpuserve.profiling.recording import Recording
from cpuserve.profiling.thread_times import ThreadTimes, TimeSpan
from cpuserve.profiling.utilisation import Utilisation

__all__ = ["Summary", "summarise"]


@dataclass(frozen=True)
class Summary:
    """The sums over one recording.

    Attributes:
        window: the time they are over.
        latency: by stage.
        cpu: CPU time by kind.
        utilisation: how busy the resources are, and which one limits.
        threads: how busy each was, most CPU time first.
    """

    window: TimeSpan
    latency: Latency
    cpu: CpuTime
    utilisation: Utilisation
    threads: tuple[ThreadTimes, ...]

    @property
    def accounted_share(self) -> float:
        """The share of the measured latency that the stages add up to."""
        return self.latency.accounted_share

    def to_json(self) -> dict[str, Any]:
        """Fit for JSON."""
        return {
            "accounted_share": round(self.accounted_share, 4),
            "latency": asdict(self.latency),
            "cpu": self.cpu.to_json(),
            "capacity": asdict(self.utilisation),
        }


def summarise(recording: Recording) -> Summary:
    """Add up a recording."""
    window = TimeSpan.of(recording)
    threads = sorted(
        (ThreadTimes.of(track, window) for track in recording.threads), key=lambda one: -one.cpu_s
    )
    return Summary(
        window=window,
        latency=Latency.of(recording),
        cpu=CpuTime.of(recording, window),
        utilisation=Utilisation.of(recording, window),
        threads=tuple(threads),
    )
