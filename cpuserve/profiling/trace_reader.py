"""Reads the traced requests of a running server, as spans of requests and batches."""

from __future__ import annotations

import threading
from collections import defaultdict

from cpuserve.profiling.recording import BatchSpan, RequestSpan
from cpuserve.serving.stages import INFER, STAGE_NAMES
from cpuserve.serving.trace_ring import TraceRecord, TraceRing

__all__ = ["TraceReader", "spans_of"]

_EVERY_S = 0.25
_LATE = 512  # requests: one this far back may still have been under way when the ring was last read


class TraceReader:
    """Collects the requests that end between `start` and `stop`.

    Args:
        trace_ring: the server's.

    Attributes:
        records: in the order they were seen.
        lost: requests that were overwritten before they were seen.
    """

    def __init__(self, trace_ring: TraceRing) -> None:
        self.records: list[TraceRecord] = []
        self.lost = 0
        self._trace_ring = trace_ring
        self._next = trace_ring.heads()
        self._seen: list[set[int]] = [set() for _ in self._next]
        self._first = list(self._next)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traced", daemon=True)

    def start(self) -> None:
        """Start to collect."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; `records` is complete then."""
        self._ending.set()
        self._thread.join()
        self._look()
        for first, end, seen in zip(self._first, self._next, self._seen, strict=True):
            settled = end - _LATE
            self.lost += max(0, settled - first - sum(number < settled for number in seen))

    def _run(self) -> None:
        while not self._ending.wait(_EVERY_S):
            self._look()

    def _look(self) -> None:
        heads = self._trace_ring.heads()
        for row, head in enumerate(heads):
            if head == self._next[row] and not self._ending.is_set():
                continue
            first = max(self._first[row], self._next[row] - _LATE)
            for record in self._trace_ring.records(row, first, self._seen[row]):
                self._seen[row].add(record.number)
                self.records.append(record)
            self._next[row] = head


def spans_of(records: list[TraceRecord]) -> tuple[list[RequestSpan], list[BatchSpan]]:
    """Requests that reached a model, and the batches they were in.

    A batch is known by its times, which all its requests share; its rows are those of the requests that were
    traced, and its thread is that of the request that led it.
    """
    rows: dict[tuple[int, int, int], int] = defaultdict(int)
    leaders: dict[tuple[int, int, int], int] = {}
    for record in records:
        for stage, begin, end in record.entries:
            if stage & 0xFF == INFER and stage >> 8:
                rows[record.pid, begin, end] += stage >> 8 & 0xFFFFFFFF
                if stage >> 40:
                    leaders[record.pid, begin, end] = record.tid
    numbers = {key: number for number, key in enumerate(sorted(rows, key=lambda key: key[1]))}
    batches = [
        BatchSpan(number, key[0], leaders.get(key, 0), key[1], key[2], rows[key])
        for key, number in numbers.items()
    ]
    requests = []
    for record in sorted(records, key=lambda one: one.end_ns):
        ran = [entry for entry in record.entries if entry[0] & 0xFF == INFER and entry[0] >> 8]
        if not ran and record.status == 200:
            continue  # health, metadata, metrics
        batch = numbers[record.pid, ran[-1][1], ran[-1][2]] if ran else None
        requests.append(
            RequestSpan(
                id=record.name,
                pid=record.pid,
                tid=record.tid,
                arrived_ns=record.entries[0][1],
                ended_ns=record.end_ns,
                stages=[(STAGE_NAMES[stage & 0xFF], begin, end) for stage, begin, end in record.entries],
                batch_id=batch,
                images=sum(stage >> 8 & 0xFFFFFFFF for stage, _, _ in ran),
                status=record.status,
            )
        )
    return requests, batches
