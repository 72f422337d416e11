"""Counters of every worker in one block of shared memory: workers x models x fields; it judges nothing.

The block is made before the workers are forked. A worker writes only into the row it has claimed, anyone
reads the sum over all rows. A row outlives its worker and is claimed again by a later one, so that no counter
ever falls back while the server runs.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from cpuserve.errors import CpuserveError
from cpuserve.serving.request import STAGES, Request
from cpuserve.serving.shared import alive
from cpuserve.sharedmem.process_lock import ProcessLock

__all__ = [
    "BATCH_SIZES",
    "BUCKETS_US",
    "COUNTERS",
    "HISTOGRAMS",
    "SERVER",
    "Recorder",
    "Statistics",
    "Totals",
]

BUCKETS_US = (
    *(10, 18, 32, 58, 104, 188, 340, 612, 1101, 1983, 3570, 6426, 11568, 20822, 37481, 67466, 121439),
    *(218591, 393464, 708235, 1274823, 2294682, 4130428, 7434771),
)
"""Upper ends of the histogram buckets, microseconds: those of OpenVINO Model Server's dashboards."""

HISTOGRAMS = ("request", "decode", "queue", "infer", "post")
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)

COUNTERS = (
    "success",  # requests
    "fail",  # requests
    "refused_queue_full",
    "refused_deadline",
    "refused_rate",
    "refused_key",
    "refused_body_memory",
    "images",  # rows answered
    "executions",  # parts run
    "last_inference_ms",  # since the epoch
    "released_idle",  # batches run because a stream was idle
    "released_gathered",  # batches run when a stream fell free
    "released_timeout",  # batches run because rows had waited max_queue_delay_us for company
    "in_flight",  # requests inside the pipeline now
    "queue_depth",  # whole requests that wait for a thread now
)
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

_NAME_BYTES = 256
_BUCKETS_NS = tuple(1000 * bucket for bucket in BUCKETS_US)
_RELEASED = {why: _FIELDS[f"released_{why}"] for why in ("idle", "gathered", "timeout")}
_PLACES = tuple(_HISTOGRAM[name] for name in ("request", *STAGES))
_SUCCESS, _FAIL, _IMAGES, _LAST, _IN_FLIGHT = (
    _FIELDS[_name] for _name in ("success", "fail", "images", "last_inference_ms", "in_flight")
)


class Statistics:
    """The block.

    Args:
        rows: workers that may live at the same time, those of a reload included.
        models: versions of models that may ever be served by one server.
    """

    def __init__(self, rows: int, models: int = 64) -> None:
        self._rows, self._models = rows, models
        names, claims = models * _NAME_BYTES, rows * 8
        self._memory = mmap.mmap(-1, names + claims + rows * models * _WORDS * 8)
        whole = memoryview(self._memory)
        self._names = whole[:names]
        self._claims = whole[names : names + claims].cast("Q")
        self._words = whole[names + claims :].cast("Q")
        self._lock = ProcessLock("cpuserve-stats")

    def claim(self, preferred: int) -> int:
        """Take a row for this process: ``preferred`` if its owner is gone, else the first that is free."""
        with self._lock:
            order = [preferred, *(row for row in range(self._rows) if row != preferred)]
            for row in order:
                if not alive(self._claims[row]):
                    self._claims[row] = os.getpid()
                    self._clear_gauges(row)
                    return row
        raise CpuserveError(f"all {self._rows} rows of the statistics have a living worker")

    def _clear_gauges(self, row: int) -> None:
        """What a dead worker had in flight is in flight no more."""
        for model in range(self._models):
            base = (row * self._models + model) * _WORDS
            for name in ("in_flight", "queue_depth"):
                self._words[base + _FIELDS[name]] = 0

    def model(self, name: str, version: int) -> int:
        """The place of a version of a model, taken at its first mention."""
        wanted = f"{name}/{version}".encode()
        with self._lock:
            for place in range(self._models):
                known = self._name(place)
                if known == wanted:
                    return place
                if not known:
                    self._names[place * _NAME_BYTES : place * _NAME_BYTES + len(wanted)] = wanted
                    return place
        raise CpuserveError(
            f"{self._models} versions of models have been served: restart to count {name}/{version} too"
        )

    def served(self) -> list[tuple[str, int]]:
        """Names and versions that have a place, in the order they were first mentioned."""
        found = []
        for place in range(self._models):
            name, _, version = self._name(place).decode().rpartition("/")
            if not name:
                break
            if name != SERVER:
                found.append((name, int(version)))
        return found

    def _name(self, place: int) -> bytes:
        return bytes(self._names[place * _NAME_BYTES : (place + 1) * _NAME_BYTES]).rstrip(b"\0")

    def recorder(self, row: int, name: str, version: int) -> Recorder:
        """What one worker counts with for one version of a model."""
        base = (row * self._models + self.model(name, version)) * _WORDS
        return Recorder(self._words[base : base + _WORDS])

    def totals(self, name: str, version: int) -> Totals:
        """The counters of a version of a model, over all workers that ever were."""
        place = self.model(name, version)
        sums = [0] * _WORDS
        for row in range(self._rows):
            base = (row * self._models + place) * _WORDS
            for word in range(_WORDS):
                value = self._words[base + word]
                sums[word] = max(sums[word], value) if word == _LAST else sums[word] + value
        return Totals(sums)


class Recorder:
    """Counts for one version of a model in one worker; its threads share it."""

    def __init__(self, words: memoryview) -> None:
        self._words = words
        self._lock = threading.Lock()

    def add(self, counter: str, amount: int = 1) -> None:
        """Add to a counter; an amount may be negative for a gauge."""
        with self._lock:
            self._words[_FIELDS[counter]] += amount

    def put(self, gauge: str, value: int) -> None:
        """Set a gauge."""
        self._words[_FIELDS[gauge]] = value

    def entered(self) -> None:
        """Count a request as inside, until it has `succeeded` or `failed`."""
        with self._lock:
            self._words[_IN_FLIGHT] += 1

    def succeeded(self, request: Request, images: int) -> None:
        """Count a request that was answered, with its stages."""
        total = time.perf_counter_ns() - request.started_ns
        words = self._words
        with self._lock:
            words[_IN_FLIGHT] -= 1
            words[_SUCCESS] += 1
            words[_IMAGES] += images
            words[_LAST] = time.time_ns() // 1_000_000
            self._observe(total, *request.stages_ns.values())

    def failed(self, request: Request) -> None:
        """Count a request that ended in an error."""
        with self._lock:
            self._words[_IN_FLIGHT] -= 1
            self._words[_FAIL] += 1
            self._words[_FIELDS["fail_request_count"]] += 1
            self._words[_FIELDS["fail_request_ns"]] += time.perf_counter_ns() - request.started_ns

    def remembered(self, request: Request, nanoseconds: int) -> None:
        """Count a request that was answered from the cache, and how long it took to find the answer there."""
        total = time.perf_counter_ns() - request.started_ns
        words = self._words
        with self._lock:
            words[_SUCCESS] += 1
            words[_FIELDS["cache_hit_count"]] += 1
            words[_FIELDS["cache_hit_ns"]] += nanoseconds
            self._observe(total)

    def missed(self, nanoseconds: int) -> None:
        """Count a request that the cache has no answer to, and how long it took to learn that."""
        with self._lock:
            self._words[_FIELDS["cache_miss_count"]] += 1
            self._words[_FIELDS["cache_miss_ns"]] += nanoseconds

    def executed(self, sizes: Sequence[int], nanoseconds: int, *, released: str) -> None:
        """Count one batch that was run in parts of these sizes.

        Args:
            sizes: of the parts.
            nanoseconds: it took, all parts together.
            released: why it was run: "idle", "gathered" or "timeout", as `COUNTERS` explains them.
        """
        words = self._words
        with self._lock:
            words[_FIELDS["executions"]] += len(sizes)
            words[_RELEASED[released]] += 1
            rows = sum(sizes)
            for size in sizes:
                place = _BATCH_PLACES[size] if size < _LARGEST_BATCH else _BATCH_PLACES[-1]
                words[place] += 1
                words[place + 1] += nanoseconds * size // rows

    def _observe(self, *nanoseconds: int) -> None:
        """Put a request's time into its histogram, and those of its stages into theirs where they follow."""
        words = self._words
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
