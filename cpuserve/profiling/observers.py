"""Starts and stops all observers of a server together, and joins what they saw."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass, field
from typing import Any

from cpuserve.machine.budget import Budget
from cpuserve.machine.cgroup import ThrottlingSample
from cpuserve.machine.diagnosis import diagnose, throttling_sample
from cpuserve.profiling.pyspy import PySpy, hindrance
from cpuserve.profiling.recording import BatchSpan, RequestSpan, Stacks, ThreadTrack
from cpuserve.profiling.running_server import RunningServer
from cpuserve.profiling.thread_sampler import ThreadSampler
from cpuserve.profiling.trace_reader import TraceReader, spans_of

__all__ = ["Observed", "Observers", "usual_rate"]

_LEAST_RATE = 10
_MOST_RATE, _RATE_A_CPU = 100, 20
_TICK_S = 1.2  # until every worker has heard that it is to sample its stacks


@dataclass(frozen=True)
class Observed:
    """What the observers saw, joined.

    Attributes:
        began_ns: when the last of them had started.
        ended_ns: when the first of them stopped.
        requests: as of `Recording`.
        batches: as of `Recording`.
        threads: as of `Recording`.
        stacks: as of `Recording`.
        placement: as of `Recording`.
        throttling: as of `Recording`.
        missing: as of `Recording`.
        cpu_s: CPU seconds of the observers outside of the server.
    """

    began_ns: int
    ended_ns: int
    requests: list[RequestSpan]
    batches: list[BatchSpan]
    threads: list[ThreadTrack]
    stacks: Stacks | None
    placement: dict[str, Any]
    throttling: dict[str, Any]
    missing: list[str]
    cpu_s: float


def usual_rate() -> int:
    """Stacks a second that cost at most about 5 % of the speed: each takes a millisecond of CPU time."""
    return min(_MOST_RATE, _RATE_A_CPU * Budget.read().effective)


@dataclass
class Observers:
    """All observers of a server, from `start` to `stop`.

    Attributes:
        server: the one that is watched.
        rate: Python stacks a second, over all workers; 0 takes none. Taking one stops all threads of a
            worker, so the cost grows with the number of workers.
        native: whether to include frames of C libraries.
    """

    server: RunningServer
    rate: int = 100
    native: bool = False
    _missing: list[str] = field(default_factory=list)
    _spy: PySpy | None = None
    _inside: bool = False

    def start(self) -> None:
        """Start all observers."""
        trace_ring = self.server.trace_ring
        self._cpu_s = _cpu_s()
        status = self.server.status()
        self._before: ThrottlingSample = throttling_sample(status)
        self._each = max(min(_LEAST_RATE, self.rate), self.rate // max(1, len(status.workers)))
        if self.rate:
            self._stacks()
        self._reader = TraceReader(trace_ring)
        self._reader.start()
        self._scheduler = ThreadSampler(self.server.processes)
        self._scheduler.start()
        trace_ring.tracing = True
        self._began_ns = time.perf_counter_ns()

    def stop(self) -> Observed:
        """Stop them, and join what they saw."""
        trace_ring = self.server.trace_ring
        ended_ns = time.perf_counter_ns()
        trace_ring.tracing = False
        trace_ring.stack_rate = 0
        self._scheduler.stop()
        cpu_s = _cpu_s() - self._cpu_s + (0.0 if self._spy is None else self._spy.cpu_s())
        stacks = self._taken((ended_ns - self._began_ns) / 1e9)
        self._reader.stop()
        status = self.server.status()
        requests, batches = spans_of(self._reader.records)
        if self._reader.lost:
            self._missing.append(
                f"{self._reader.lost} requests were overwritten before they were read: profile a lower rate"
            )
        if any(record.lost for record in self._reader.records):
            self._missing.append("some requests had more stages than are kept: send fewer pictures in one")
        change = throttling_sample(status).since(self._before)
        return Observed(
            began_ns=self._began_ns,
            ended_ns=ended_ns,
            requests=requests,
            batches=batches,
            threads=self._scheduler.tracks({request.tid for request in requests}, self.server.pid),
            stacks=stacks,
            placement=diagnose(status, self._before),
            throttling={} if change is None else {**vars(change), "share": change.share},
            missing=self._missing,
            cpu_s=cpu_s,
        )

    def _stacks(self) -> None:
        """Attach py-spy, or let the workers sample their own stacks."""
        why = hindrance(self.server.pid)
        if not why:
            self._spy = PySpy(self.server.pid, self._each, native=self.native)
            why = self._spy.start()
        if why:
            self._spy = None
            self._missing.append(f"py-spy may not attach: {why}")
            self._inside = True
            self.server.trace_ring.stack_rate = self._each
            time.sleep(_TICK_S)

    def _taken(self, seconds: float) -> Stacks | None:
        if self._spy is not None:
            folded, why = self._spy.stop()
            if why:
                self._missing.append(why)
            return Stacks(self._each, seconds, folded, "py-spy attach", self.native) if folded else None
        if not self._inside:
            return None
        time.sleep(2 / self._each + 0.1)  # each worker shows what it has when it sees that it is to end
        there = set(self.server.processes())
        folded = {
            f"process {pid};{stack}": count
            for pid, stacks in self.server.trace_ring.stacks().items()
            if pid in there
            for stack, count in stacks.items()
        }
        return Stacks(self._each, seconds, folded, "in-process sampler", native=False)


def _cpu_s() -> float:
    """CPU seconds of this process, without its children: they may be clients."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
