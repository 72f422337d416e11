"""Finds out whether serving threads, inference streams or CPUs limit the throughput.

By the utilisation law a resource that is busy for a share u of the time at a rate X can carry X/u at most:
the one with the largest u is the limit (Denning and Buzen, The Operational Analysis of Queueing Network
Models, 1978).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from cpuserve.profiling.recording import Recording
from cpuserve.profiling.thread_times import ThreadTimes, TimeSpan

__all__ = ["Resource", "Utilisation"]

_WAITING = ("queue", "batch_wait")
_IDLE_BELOW = 0.7
"""Below this share of every resource, the load limits the throughput, not the server."""


@dataclass(frozen=True)
class Resource:
    """Something that a request occupies while it is worked on.

    Attributes:
        name: ``serving threads``, ``inference streams`` or ``CPUs``.
        count: how many there are.
        busy_share: share of their time in which they are busy, 0 to 1.
        ceiling_per_s: requests a second at which they would be busy all the time.
    """

    name: str
    count: int
    busy_share: float
    ceiling_per_s: float


@dataclass(frozen=True)
class Utilisation:
    """How much the server did each second, and what limits it.

    Attributes:
        rate: requests answered 200, a second.
        images_per_s: pictures or rows in them.
        in_flight: requests inside the server on average (Little's law).
        resources: most busy first.
        stages: seconds of serving threads' time, a second, by stage, without waiting ones.
        limit: name of the resource that limits; ``load`` when none is busy.
    """

    rate: float
    images_per_s: float
    in_flight: float
    resources: tuple[Resource, ...]
    stages: dict[str, float]
    limit: str

    def busy(self, name: str) -> float:
        """The share of a resource that is busy."""
        return next(one.busy_share for one in self.resources if one.name == name)

    def count(self, name: str) -> int:
        """How many there are of a resource."""
        return next(one.count for one in self.resources if one.name == name)

    def held(self, *stages: str) -> float:
        """The share of the serving threads' working time that these stages take."""
        total = sum(self.stages.values())
        return sum(self.stages.get(name, 0.0) for name in stages) / total if total else 0.0

    @classmethod
    def of(cls, recording: Recording, window: TimeSpan) -> Utilisation:
        """Add up how busy each resource was in a span of time."""
        seconds = window.seconds or 1.0
        done = [
            one
            for one in recording.requests
            if one.status == 200 and window.begin_ns <= one.ended_ns <= window.end_ns
        ]
        rate = len(done) / seconds
        stages: dict[str, float] = defaultdict(float)
        inside = 0.0
        for request in done:
            inside += (request.ended_ns - request.arrived_ns) / 1e9
            for name, begin, end in request.stages:
                if name not in _WAITING:
                    stages[name] += (end - begin) / 1e9 / seconds
        ran = sum(
            max(0, min(one.end_ns, window.end_ns) - max(one.begin_ns, window.begin_ns))
            for one in recording.batches
        )
        cpu = sum(ThreadTimes.of(track, window).cpu_s for track in recording.threads)
        counts = _counts(recording)
        work = {
            "serving threads": sum(stages.values()),
            "inference streams": ran / 1e9 / seconds,
            "CPUs": cpu / seconds,
        }
        resources = sorted(
            (_resource(name, counts[name], work[name], rate) for name in counts),
            key=lambda one: -one.busy_share,
        )
        limit = resources[0].name if resources[0].busy_share >= _IDLE_BELOW else "load"
        return cls(
            rate=rate,
            images_per_s=sum(one.images for one in done) / seconds,
            in_flight=inside / seconds,
            resources=tuple(resources),
            stages=dict(stages),
            limit=limit,
        )


def _resource(name: str, count: int, work: float, rate: float) -> Resource:
    share = min(1.0, work / count)
    return Resource(name, count, share, rate / share if share else 0.0)


def _counts(recording: Recording) -> dict[str, int]:
    """How many there are of each, by the settings first: threads that never ran were not seen."""
    serving = sum(track.role == "serve" for track in recording.threads)
    seats = recording.placement.get("seats") or []
    workers = int(recording.settings.get("workers") or len(seats) or 1)
    streams = int(recording.settings.get("streams") or 0) * workers
    budget = recording.placement.get("budget") or {}
    cpus = int(budget.get("effective") or sum(int(seat["threads"]) for seat in seats))
    return {
        "serving threads": max(1, serving),
        "inference streams": streams or max(1, sum(int(seat["threads"]) for seat in seats), serving),
        "CPUs": max(1, cpus),
    }
