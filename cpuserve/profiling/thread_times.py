"""Tells how long each thread was on a CPU, or ready without one, in a span of time or its parts."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

from cpuserve.profiling.recording import Recording, ThreadTrack

__all__ = ["ThreadTimes", "TimeSpan", "main_cpu", "slices"]


@dataclass(frozen=True)
class TimeSpan:
    """The time for which the requests of every worker are known.

    Workers keep only their last requests: the beginning of a long recording may be gone.

    Attributes:
        begin_ns: when it begins.
        end_ns: when it ends.
    """

    begin_ns: int
    end_ns: int

    @property
    def seconds(self) -> float:
        """Its length in seconds."""
        return (self.end_ns - self.begin_ns) / 1e9

    @classmethod
    def of(cls, recording: Recording) -> TimeSpan:
        """From when the last worker has its first request, to the end of the last request."""
        begin, end = recording.began_ns, recording.ended_ns
        by_pid: dict[int, list[int]] = {}
        last = begin
        for request in recording.requests:
            by_pid.setdefault(request.pid, []).append(request.arrived_ns)
            last = max(last, request.ended_ns)
        for arrivals in by_pid.values():
            if len(arrivals) > 1:
                begin = max(begin, min(arrivals))
        end = min(end, last) if by_pid else end
        if end - begin < (recording.ended_ns - recording.began_ns) / 10:
            return cls(recording.began_ns, recording.ended_ns)
        return cls(begin, end)


@dataclass(frozen=True)
class ThreadTimes:
    """CPU time and waiting time of one thread in a span of time.

    Attributes:
        track: the thread.
        cpu_s: seconds on a CPU.
        wait_s: seconds ready to run, without a CPU.
        seconds: how long the thread was watched in that time.
    """

    track: ThreadTrack
    cpu_s: float
    wait_s: float
    seconds: float

    @property
    def cpu_share(self) -> float:
        """The share of the time on a CPU."""
        return self.cpu_s / self.seconds if self.seconds else 0.0

    @property
    def wait_share(self) -> float:
        """The share of the time it wanted to run in which it had no CPU."""
        wanted = self.cpu_s + self.wait_s
        return self.wait_s / wanted if wanted else 0.0

    @classmethod
    def of(cls, track: ThreadTrack, window: TimeSpan) -> ThreadTimes:
        """Read the thread's counters at both ends of the window."""
        if len(track.samples) < 2:
            return cls(track, 0.0, 0.0, 0.0)
        begin = max(window.begin_ns, track.samples[0][0])
        end = min(window.end_ns, track.samples[-1][0])
        if end <= begin:
            return cls(track, 0.0, 0.0, 0.0)
        (cpu0, wait0), (cpu1, wait1) = _at(track, begin), _at(track, end)
        return cls(track, (cpu1 - cpu0) / 1e9, (wait1 - wait0) / 1e9, (end - begin) / 1e9)


def slices(track: ThreadTrack, window: TimeSpan, count: int) -> list[tuple[float, float]]:
    """Shares of time on a CPU, and ready without one, in each of ``count`` equal parts of a window."""
    step = (window.end_ns - window.begin_ns) / count
    times = [round(window.begin_ns + step * number) for number in range(count + 1)]
    found = []
    for begin, end in pairwise(times):
        part = ThreadTimes.of(track, TimeSpan(begin, end))
        whole = max(part.seconds, (end - begin) / 1e9)
        found.append((min(1.0, part.cpu_s / whole), min(1.0, part.wait_s / whole)) if whole else (0.0, 0.0))
    return found


def main_cpu(track: ThreadTrack) -> tuple[int, float]:
    """The CPU on which a thread spent most of its time, and the share of it; (-1, 0) where it had none."""
    spent: Counter[int] = Counter()
    for (_, before, _, _), (_, after, _, last) in pairwise(track.samples):
        spent[last] += after - before
    total = sum(spent.values())
    if not total:
        return -1, 0.0
    cpu, most = spent.most_common(1)[0]
    return cpu, most / total


def _at(track: ThreadTrack, t_ns: int) -> tuple[float, float]:
    """CPU and waiting time [ns] at ``t_ns``, linearly between the samples around it."""
    samples = track.samples
    after = min(max(1, bisect_right(samples, t_ns, key=lambda sample: sample[0])), len(samples) - 1)
    (t0, cpu0, wait0, _), (t1, cpu1, wait1, _) = samples[after - 1], samples[after]
    part = min(1.0, max(0.0, (t_ns - t0) / (t1 - t0))) if t1 > t0 else 1.0
    return cpu0 + part * (cpu1 - cpu0), wait0 + part * (wait1 - wait0)
