"""Counters of all workers in shared memory: a row a worker, a place a version of a model.

The block is made before the workers are forked. A worker writes only into its row, anyone reads the sum of
all. A row outlives its worker and is claimed again by a later one, so that no counter of a version that is
served ever falls back. A version that no worker serves any more gives its place to a later one.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from bisect import bisect_left
from collections import deque
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Protocol

from cpuserve.errors import CpuserveError
from cpuserve.serving.request import Request
from cpuserve.serving.stages import COUNTED_STAGES
from cpuserve.sharedmem.block import Block
from cpuserve.sharedmem.record import Bytes, Record, Word, Words

__all__ = [
    "BATCH_SIZES",
    "BUCKETS_US",
    "COUNTERS",
    "GRPC_CODES",
    "HISTOGRAMS",
    "SERVER",
    "Counted",
    "Recorder",
    "Statistics",
    "Totals",
]

BUCKETS_US = (
    *(10, 18, 32, 58, 104, 188, 340, 612, 1101, 1983, 3570, 6426, 11568, 20822, 37481, 67466, 121439),
    *(218591, 393464, 708235, 1274823, 2294682, 4130428, 7434771),
)
"""Upper ends of the histogram buckets, microseconds: those of OpenVINO Model Server's dashboards."""

HISTOGRAMS = ("request", *COUNTED_STAGES, "grpc_request")
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)

GRPC_CODES = (
    *("OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED"),
    *("DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "CANCELLED"),
)
"""The codes that answers over gRPC are counted by."""

COUNTERS = (
    "success",  # requests
    "fail",  # requests
    "refused_queue_full",
    "refused_deadline",
    "refused_rate",
    "refused_key",
    "refused_body_memory",
    "refused_client_left",
    "grpc_success",  # of those in success
    "grpc_fail",  # of those in fail
    *(f"grpc_{code}" for code in GRPC_CODES),  # answers of the server over gRPC
    "images",  # rows answered
    "executions",  # parts run
    "last_inference_ms",  # since the epoch
    "released_idle",  # batches run because a stream was idle
    "released_gathered",  # batches run when a stream fell free
    "released_timeout",  # batches run because rows had waited max_queue_delay_us for others
    "in_flight",  # requests inside the pipeline now
    "queue_depth",  # whole requests that wait for a thread now
    "streams",  # inference streams of a worker
)
_GAUGES = ("in_flight", "queue_depth", "streams")
SERVER = "*"
"""In place of a model's name: what a worker counts before it knows the model."""

_FIELDS: dict[str, int] = {}
for _name in COUNTERS:
    _FIELDS[_name] = len(_FIELDS)
for _name in ("fail_request", "cache_hit", "cache_miss"):
    _FIELDS[f"{_name}_ns"] = len(_FIELDS)
    _FIELDS[f"{_name}_count"] = len(_FIELDS)
_BUCKETS = len(BUCKETS_US) + 1
_HISTOGRAM: dict[str, int] = {}  # of each histogram: nanoseconds, then its buckets
for _name in HISTOGRAMS:
    _HISTOGRAM[_name] = len(_FIELDS) + len(_HISTOGRAM) * (1 + _BUCKETS)
_BATCH_BASE = len(_FIELDS) + len(HISTOGRAMS) * (1 + _BUCKETS)
_WORDS = _BATCH_BASE + 2 * len(BATCH_SIZES)  # of each batch size: executions, nanoseconds

_LARGEST_BATCH = BATCH_SIZES[-1]
_BATCH_PLACES = [_BATCH_BASE + 2 * bisect_left(BATCH_SIZES, size) for size in range(_LARGEST_BATCH + 1)]

_MOST = 1025  # for the server itself and versions of models; unused ones take no memory
_NAME_BYTES = 288  # a folder's name, a slash and a number
_ZEROS = memoryview(bytes(8 * _WORDS)).cast("Q")
_GREATEST = {_FIELDS["last_inference_ms"], _FIELDS["streams"]}  # over workers; all else is added up
_OF_LIVING = frozenset(_FIELDS[name] for name in _GAUGES)
_BUCKETS_NS = tuple(1000 * bucket for bucket in BUCKETS_US)
_RELEASED = {why: _FIELDS[f"released_{why}"] for why in ("idle", "gathered", "timeout")}
_EXECUTIONS, _GRPC_SUCCESS = _FIELDS["executions"], _FIELDS["grpc_success"]
_ANSWERED = {code: _FIELDS[f"grpc_{code}"] for code in GRPC_CODES}
*_PLACES, _GRPC_PLACE = (_HISTOGRAM[name] for name in HISTOGRAMS)
_SUCCESS, _FAIL, _IMAGES, _LAST, _IN_FLIGHT = (
    _FIELDS[_name] for _name in ("success", "fail", "images", "last_inference_ms", "in_flight")
)


class _Served(Record):
    used = Word()  # places that were ever taken
    names = Bytes(_MOST * _NAME_BYTES)


class _StatisticsRow(Record):
    settled = Word()  # whether this worker has loaded its models
    held = Words(_MOST)  # recorders that the worker has for each place
    cells = Words(_MOST * _WORDS)


class Statistics:
    """The counters of all workers.

    Args:
        rows: workers that may live at the same time, those of a reload included.
        models: versions of models that may be served at the same time.
    """

    def __init__(self, rows: int, models: int = _MOST - 1) -> None:
        self._places = models + 1
        self._block = Block("cpuserve-statistics", 3, _Served, _StatisticsRow, rows)
        self._rows, self._head = self._block.rows, self._block.head
        self._left: deque[tuple[int, int, int]] = deque()  # process, row, place of recorders that are gone
        self._write(0, f"{SERVER}/0".encode())
        self._head.used = 1

    def claim(self, preferred: int) -> int:
        """Take a row for this process: ``preferred`` if its owner is gone, else the first that is free.

        Raises:
            CpuserveError: every row has a living worker.
        """
        row = self._block.claim(preferred)
        self._vacate(row)
        return row

    def settle(self, row: int) -> None:
        """Say that this worker has loaded its models: versions that no worker has may lose their places."""
        self._rows[row].settled = 1

    def tick(self) -> None:
        """Free the places of versions that this worker no longer serves, unless another one is doing it."""
        if self._left:
            with self._block.lock.at_once() as entered:
                if entered:
                    self._free_places()

    def workers(self) -> list[int]:
        """Process ids of the living workers."""
        return sorted(self._block.owners().values())

    def _vacate(self, row: int) -> None:
        mine = self._rows[row]
        mine.settled = 0
        mine.held[:] = memoryview(bytes(8 * _MOST)).cast("Q")
        for place in range(self._head.used):
            for name in _GAUGES:
                mine.cells[place * _WORDS + _FIELDS[name]] = 0

    def served(self) -> list[tuple[str, int]]:
        """Names and versions that have a place, in the order of their places."""
        with self._block.lock:
            self._free_places()
            return [version for _, version in self._served()]

    def every(self) -> list[tuple[str, int, Totals]]:
        """Name, version and counters of all that `served` lists."""
        with self._block.lock:
            self._free_places()
            living = set(self._block.owners())
            return [(*version, self._totals(place, living)) for place, version in self._served()]

    def _served(self) -> Iterator[tuple[int, tuple[str, int]]]:
        for place in range(1, self._head.used):
            name, _, version = self._name(place).decode().rpartition("/")
            if name:
                yield place, (name, int(version))

    def recorder(self, row: int, name: str, version: int) -> Recorder:
        """The recorder of one worker for one version of a model; the place is kept as long as it lives.

        Raises:
            CpuserveError: too many versions are served at the same time.
        """
        with self._block.lock:
            place = self._find(name, version)
            if place is None:
                place = self._take(name, version)
            self._rows[row].held[place] += 1
        recorder = Recorder(self._rows[row].cells[place * _WORDS : (place + 1) * _WORDS])
        # it may be collected while this very thread is inside the lock, so its end is only noted
        weakref.finalize(recorder, self._left.append, (os.getpid(), row, place)).atexit = False
        return recorder

    def _take(self, name: str, version: int) -> int:
        self._free_places()
        used = self._head.used
        place = next((place for place in range(1, used) if not self._name(place)), used)
        if place >= self._places:
            raise CpuserveError(
                f"{self._places - 1} versions of models are served at the same time, and the statistics have "
                f"no place for {name}/{version}: serve fewer (setting model_version_policy), or some of them "
                "by another server"
            )
        self._write(place, f"{name}/{version}".encode())
        self._head.used = max(used, place + 1)
        return place

    def _free_places(self) -> None:
        """Forget versions that no living worker has, once a worker has loaded its models."""
        while self._left:
            pid, row, place = self._left.popleft()
            if pid == os.getpid() and self._rows[row].held[place]:
                self._rows[row].held[place] -= 1
        living = [self._rows[number] for number in self._block.owners()]
        if not any(row.settled for row in living):
            return
        for place in range(1, self._head.used):
            if self._name(place) and not any(row.held[place] for row in living):
                self._write(place, b"")
                for any_row in self._rows:
                    any_row.cells[place * _WORDS : (place + 1) * _WORDS] = _ZEROS

    def _find(self, name: str, version: int) -> int | None:
        wanted = f"{name}/{version}".encode()
        return next((place for place in range(self._head.used) if self._name(place) == wanted), None)

    def _name(self, place: int) -> bytes:
        return bytes(self._head.names[place * _NAME_BYTES : (place + 1) * _NAME_BYTES]).rstrip(b"\0")

    def _write(self, place: int, name: bytes) -> None:
        self._head.names[place * _NAME_BYTES : (place + 1) * _NAME_BYTES] = name.ljust(_NAME_BYTES, b"\0")

    def totals(self, name: str, version: int) -> Totals:
        """The counters of a version over all workers that ever were, gauges over those that live.

        They are zeros where none serves it.
        """
        place = self._find(name, version)
        return Totals([0] * _WORDS) if place is None else self._totals(place, set(self._block.owners()))

    def _totals(self, place: int, living: Container[int]) -> Totals:
        cells = []
        for number, row in enumerate(self._rows):
            values = row.cells[place * _WORDS : (place + 1) * _WORDS].tolist()
            if number not in living:
                for gauge in _OF_LIVING:
                    values[gauge] = 0
            cells.append(values)
        by_word = enumerate(zip(*cells, strict=True))
        return Totals([(max if word in _GREATEST else sum)(values) for word, values in by_word])


class Counted(Protocol):
    """Something with a count of what is in it."""

    count: int


class Recorder:
    """Counts for one version of a model in one worker; its threads share it."""

    def __init__(self, words: memoryview) -> None:
        self._words = words
        self._lock = threading.Lock()

    def add(self, counter: str, amount: int = 1) -> None:
        """Add to a counter; an amount may be negative for a gauge."""
        with self._lock:
            self._words[_FIELDS[counter]] += amount

    def now(self, gauge: str) -> int:
        """A gauge as it is in this worker."""
        return self._words[_FIELDS[gauge]]

    def put(self, gauge: str, value: int) -> None:
        """Set a gauge."""
        self._words[_FIELDS[gauge]] = value

    def put_count(self, gauge: str, queue: Counted) -> None:
        """Set a gauge to the length of a queue, read under the lock, so that the last call is right."""
        with self._lock:
            self._words[_FIELDS[gauge]] = queue.count

    def answered(self, grpc_code: str) -> None:
        """Count an answer of the server over gRPC."""
        with self._lock:
            self._words[_ANSWERED[grpc_code]] += 1

    def succeeded(self, request: Request, images: int) -> None:
        """Count a request that was ``in_flight`` and is answered, with its stages."""
        total = time.perf_counter_ns() - request.started_ns
        words = self._words
        with self._lock:
            words[_IN_FLIGHT] -= 1
            words[_SUCCESS] += 1
            words[_IMAGES] += images
            words[_LAST] = time.time_ns() // 1_000_000
            self._observe(request, total, *request.stages_ns.values())

    def failed(self, request: Request) -> None:
        """Count a request that was ``in_flight`` and ended in an error."""
        with self._lock:
            self._words[_IN_FLIGHT] -= 1
            self._words[_FAIL] += 1
            self._words[_FIELDS["grpc_fail"]] += request.over_grpc
            self._words[_FIELDS["fail_request_count"]] += 1
            self._words[_FIELDS["fail_request_ns"]] += time.perf_counter_ns() - request.started_ns

    def cache_hit(self, request: Request, nanoseconds: int) -> None:
        """Count a request that was answered from the cache, and how long it took to find the answer there."""
        total = time.perf_counter_ns() - request.started_ns
        words = self._words
        with self._lock:
            words[_SUCCESS] += 1
            words[_FIELDS["cache_hit_count"]] += 1
            words[_FIELDS["cache_hit_ns"]] += nanoseconds
            self._observe(request, total)

    def cache_miss(self, nanoseconds: int) -> None:
        """Count a request that the cache has no answer to, and how long it took to learn that."""
        with self._lock:
            self._words[_FIELDS["cache_miss_count"]] += 1
            self._words[_FIELDS["cache_miss_ns"]] += nanoseconds

    def executed(self, parts: Sequence[tuple[int, int]], nanoseconds: int, *, released: str) -> None:
        """Count one batch that was run in parts.

        Args:
            parts: the first row of each, and its rows.
            nanoseconds: it took, all parts together.
            released: why it was run: "idle", "gathered" or "timeout", as `COUNTERS` explains them.
        """
        words = self._words
        with self._lock:
            words[_EXECUTIONS] += len(parts)
            words[_RELEASED[released]] += 1
            rows = parts[0][1] if len(parts) == 1 else sum([size for _, size in parts])
            for _, size in parts:
                place = _BATCH_PLACES[size] if size < _LARGEST_BATCH else _BATCH_PLACES[-1]
                words[place] += 1
                words[place + 1] += nanoseconds * size // rows

    def _observe(self, request: Request, *nanoseconds: int) -> None:
        """Put a request's time into its histogram, and those of its stages into theirs where they follow."""
        words = self._words
        if request.over_grpc:
            words[_GRPC_SUCCESS] += 1
            words[_GRPC_PLACE] += nanoseconds[0]
            words[_GRPC_PLACE + 1 + bisect_left(_BUCKETS_NS, nanoseconds[0])] += 1
        for at, spent in zip(_PLACES, nanoseconds, strict=False):
            words[at] += spent
            words[at + 1 + bisect_left(_BUCKETS_NS, spent)] += 1


class Totals:
    """A copy of the counters of one version of a model."""

    def __init__(self, words: Sequence[int]) -> None:
        self._words = words

    def __getitem__(self, counter: str) -> int:
        return self._words[_FIELDS[counter]]

    def counters(self) -> Mapping[str, int]:
        """Every counter by name."""
        return {name: self[name] for name in COUNTERS}

    def duration(self, histogram: str) -> tuple[int, int]:
        """Number of observations and nanoseconds in all."""
        if histogram in _HISTOGRAM:
            return sum(self.buckets(histogram)), self._words[_HISTOGRAM[histogram]]
        return self[f"{histogram}_count"], self[f"{histogram}_ns"]

    def buckets(self, histogram: str) -> list[int]:
        """Observations by bucket of `BUCKETS_US`, those above the last one at the end; not cumulated."""
        first = _HISTOGRAM[histogram] + 1
        return list(self._words[first : first + _BUCKETS])

    def batches(self) -> dict[int, tuple[int, int]]:
        """Executions and nanoseconds by batch size, of sizes that were run."""
        found = {}
        for index, size in enumerate(BATCH_SIZES):
            count, nanoseconds = self._words[_BATCH_BASE + 2 * index : _BATCH_BASE + 2 * index + 2]
            if count:
                found[size] = (count, nanoseconds)
        return found
