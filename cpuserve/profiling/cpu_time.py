"""Divides the server's CPU time by what it went into: decoding, inference, Python, kernel, idle spinning.

The kernel counts how long a thread was on a CPU and how long it was ready for one; the stages tell what the
thread did meanwhile. Time without a CPU is taken from all stages alike. CPU time that is neither decoding nor
Python is inference, up to the length of the batches that the thread led (beyond it OpenVINO's own threads
computed while this one slept); the rest is the interpreter's. CPU time of an OpenVINO thread while no batch
ran is spinning.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

from cpuserve.profiling.recording import BatchSpan, Recording, ThreadTrack
from cpuserve.profiling.thread_times import ThreadTimes, TimeSpan

__all__ = ["KINDS", "CpuTime"]

KINDS = ("decode", "inference", "python", "kernel", "spin", "other")
"""Bytes to the model's row; OpenVINO; the interpreter; system calls and page faults; OpenVINO threads without
a batch; arbiter, accepting and administration."""

_DECODE = ("decode", "resize")
_PYTHON = ("post", "serialise")


@dataclass(frozen=True)
class CpuTime:
    """CPU seconds of all threads of the server in the window, by what they went into.

    Attributes:
        decode: bytes to the model's row.
        inference: OpenVINO.
        python: post-processing, JSON, HTTP and all else of the interpreter.
        kernel: in the kernel; 0 where the recording does not know.
        spin: OpenVINO threads while no batch ran.
        other: threads that serve nothing: arbiter, accepting, administration.
        seconds: of the window.
    """

    decode: float
    inference: float
    python: float
    kernel: float
    spin: float
    other: float
    seconds: float

    @property
    def total(self) -> float:
        """CPU seconds in all."""
        return self._of(*KINDS)

    def share(self, *kinds: str) -> float:
        """The part, 0 to 1, of these `KINDS` together."""
        return self._of(*kinds) / self.total if self.total else 0.0

    def _of(self, *kinds: str) -> float:
        return sum(float(getattr(self, kind)) for kind in kinds)

    def to_json(self) -> dict[str, float]:
        """Fit for JSON."""
        return {**asdict(self), "total": self.total}

    @classmethod
    def of(cls, recording: Recording, window: TimeSpan) -> CpuTime:
        """Split the CPU time of every thread."""
        spent: dict[str, float] = dict.fromkeys(KINDS, 0.0)
        stages = _stage_seconds(recording, window)
        batches: dict[int, list[BatchSpan]] = defaultdict(list)
        for batch in recording.batches:
            batches[batch.pid].append(batch)
        for track in recording.threads:
            busy = ThreadTimes.of(track, window)
            if track.role == "serve":
                own = _serving(busy, stages[track.pid, track.tid])
            elif track.role == "openvino":
                inside = min(busy.cpu_s, _during(track, window, _union(batches[track.pid])))
                own = {"inference": inside, "spin": busy.cpu_s - inside}
            else:
                own = {"other": busy.cpu_s}
            whole = sum(own.values())
            kernel = min(whole, track.kernel_ns / 1e9 * _part(track, busy))
            for kind, seconds in own.items():
                spent[kind] += seconds * (1 - kernel / whole) if whole else 0.0
            spent["kernel"] += kernel
        return cls(**spent, seconds=window.seconds)


def _part(track: ThreadTrack, busy: ThreadTimes) -> float:
    """The window's part of all the CPU time for which the thread was watched."""
    watched = (track.samples[-1][1] - track.samples[0][1]) / 1e9 if track.samples else 0.0
    return min(1.0, busy.cpu_s / watched) if watched else 0.0


def _stage_seconds(recording: Recording, window: TimeSpan) -> dict[tuple[int, int], dict[str, float]]:
    found: dict[tuple[int, int], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for request in recording.requests:
        for name, begin, end in request.stages:
            inside = min(end, window.end_ns) - max(begin, window.begin_ns)
            if inside > 0:
                found[request.pid, request.tid][name] += inside / 1e9
    for batch in recording.batches:
        inside = min(batch.end_ns, window.end_ns) - max(batch.begin_ns, window.begin_ns)
        if inside > 0:
            found[batch.pid, batch.tid]["led"] += inside / 1e9
    return found


def _serving(busy: ThreadTimes, stages: dict[str, float]) -> dict[str, float]:
    """One serving thread, by what it was at while it was not asleep."""
    awake = busy.cpu_s + busy.wait_s
    decode = sum(stages.get(name, 0.0) for name in _DECODE)
    python = sum(stages.get(name, 0.0) for name in _PYTHON)
    inference = min(max(0.0, awake - decode - python), stages.get("led", 0.0))
    python += max(0.0, awake - decode - python - inference)
    whole = decode + python + inference
    scale = busy.cpu_s / whole if whole else 0.0
    return {"decode": scale * decode, "inference": scale * inference, "python": scale * python}


def _union(batches: Sequence[BatchSpan]) -> list[tuple[int, int]]:
    """When at least one batch ran, ascending and not overlapping."""
    merged: list[tuple[int, int]] = []
    for batch in sorted(batches, key=lambda one: one.begin_ns):
        if merged and batch.begin_ns <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], batch.end_ns))
        else:
            merged.append((batch.begin_ns, batch.end_ns))
    return merged


def _during(track: ThreadTrack, window: TimeSpan, spans: list[tuple[int, int]]) -> float:
    """CPU seconds of a thread that fit into the spans, sample by sample."""
    found = 0.0
    ends = [end for _, end in spans]
    for (t0, cpu0, _, _), (t1, cpu1, _, _) in pairwise(track.samples):
        begin, end = max(t0, window.begin_ns), min(t1, window.end_ns)
        if end <= begin or cpu1 <= cpu0:
            continue
        overlap = 0
        for at in range(bisect_right(ends, begin), len(spans)):
            if spans[at][0] >= end:
                break
            overlap += min(end, spans[at][1]) - max(begin, spans[at][0])
        found += min((cpu1 - cpu0) * (end - begin) / (t1 - t0), overlap)
    return found / 1e9
