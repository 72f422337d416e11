"""Rows of a batch: claimed, written, run as soon as a stream is idle; there is no timer and no thread in it.

A request claims rows of the slot that is filling, writes its pictures straight into them and asks for
them to be run. With a stream idle they run at once, alone, by the thread that wrote them. With every stream
busy they wait, and the thread whose rows have waited longest takes all written rows of its slot along when
a stream falls free (leader and followers). So batches grow with the load and nothing is ever waited for at
low load.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from cpuserve.serving.engine import Array, Engine, Part
from cpuserve.serving.statistics import Recorder

__all__ = ["Batcher", "Filling", "Rows", "split"]


class Rows:
    """Neighbouring rows of a slot that belong to one request.

    Attributes:
        inputs: one array [count, ...] an input, to be written.
        started_ns: when their batch was started, on the clock of `time.perf_counter_ns`.
        finished_ns: when it was done.
        led: whether the thread that wrote them ran the batch.
    """

    __slots__ = ("_turn", "batch", "count", "error", "finished_ns", "first", "led", "slot", "started_ns")

    def __init__(self, slot: Filling, first: int, count: int) -> None:
        self.slot = slot
        self.first = first
        self.count = count
        self.batch: list[Rows] | None = None
        self.error: Exception | None = None
        self.started_ns = self.finished_ns = 0
        self.led = False
        self._turn: threading.Lock | None = None

    @property
    def inputs(self) -> tuple[Array, ...]:
        """One array [count, ...] an input."""
        return tuple(array[self.first : self.first + self.count] for array in self.slot.memory.inputs)

    @property
    def outputs(self) -> tuple[Array, ...]:
        """One array [count, ...] an output, valid until the rows are released."""
        result: tuple[Array, ...] = self.slot.memory.outputs(self.first, self.count)
        return result

    def park(self) -> None:
        """Prepare to wait; called with the batcher's lock held."""
        self._turn = threading.Lock()
        self._turn.acquire()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the rows have run, or this thread is to run a batch; False: ``seconds`` are over."""
        return self._turn is None or self._turn.acquire(timeout=-1 if seconds is None else seconds)

    def wake(self) -> None:
        """Let the waiting thread go on."""
        if self._turn is not None:
            self._turn.release()


class Filling:
    """A slot and how many of its rows are taken, given back, and sent to be run by a patient batcher."""

    __slots__ = ("claimed", "memory", "released", "sent")

    def __init__(self, memory: Any) -> None:
        self.memory = memory
        self.claimed = self.released = self.sent = 0


class Batcher:
    """Shares the slots and streams of one engine between threads.

    Args:
        engine: what runs the rows.
        recorder: counts the batches.

    Attributes:
        max_batch: rows of a slot.
        delay_us: how long rows wait although a stream is idle, microseconds.
    """

    delay_us = 0.0

    def __init__(self, engine: Engine, recorder: Recorder) -> None:
        self.engine = engine
        self._recorder = recorder
        self.max_batch = engine.rows
        self._lock = threading.Lock()
        self._idle_streams = engine.streams
        self._pending: deque[Rows] = deque()
        self._free: list[Filling] = []
        self._filling = Filling(engine.new_slot())

    def claim(self, count: int = 1) -> Rows:
        """Take ``count`` neighbouring rows, at most ``max_batch``; they must be released."""
        with self._lock:
            slot = self._filling
            if slot.claimed + count > self.max_batch:
                slot = self._filling = self._another()
            rows = Rows(slot, slot.claimed, count)
            slot.claimed += count
        return rows

    def _another(self) -> Filling:
        return self._free.pop() if self._free else Filling(self.engine.new_slot())

    def release(self, rows: Rows) -> None:
        """Give rows back; their outputs are no longer valid."""
        with self._lock:
            slot = rows.slot
            slot.released += rows.count
            if slot.released == slot.claimed:
                slot.claimed = slot.released = slot.sent = 0
                if slot is not self._filling:
                    self._free.append(slot)

    def run(self, rows: Rows) -> None:
        """Run written rows and return when their outputs are there.

        Raises:
            Exception: what the engine raised for the batch these rows were in.
        """
        released = "idle"
        with self._lock:
            if self._idle_streams:
                batch: list[Rows] | None = [rows]
                streams = self._take_streams(rows.count)
            else:
                rows.park()
                self._pending.append(rows)
                batch, streams = None, 1
        if batch is None:
            rows.wait()
            released = "gathered"
            batch = rows.batch  # set when this thread was woken to lead
        if batch is not None:
            self._lead(batch, streams, released)
        if rows.error is not None:
            raise rows.error

    def _take_streams(self, count: int) -> int:
        """One stream, and more of the idle ones where there are several rows to spread over them."""
        streams = min(count, self._idle_streams)
        self._idle_streams -= streams
        return streams

    def _lead(self, batch: list[Rows], streams: int, released: str) -> None:
        failure: Exception | None = None
        batch[0].led = True
        started = time.perf_counter_ns()
        try:
            parts = split([(rows.first, rows.count) for rows in batch], self.engine.sizes, streams)
            self.engine.run(batch[0].slot.memory, parts)
            spent = time.perf_counter_ns() - started
            self._recorder.executed([size for _, size in parts], spent, released=released)
        except Exception as error:  # noqa: BLE001  # travels with every request of the batch
            failure = error
        finished = time.perf_counter_ns()
        with self._lock:
            following = [self._next_batch() for _ in range(streams) if self._pending] if self._pending else []
            self._idle_streams += streams - len(following)
        for rows in batch:
            rows.error, rows.started_ns, rows.finished_ns = failure, started, finished
            if rows is not batch[0]:
                rows.wake()
        for waiting in following:
            waiting[0].batch = waiting
            waiting[0].wake()

    def _next_batch(self) -> list[Rows]:
        """The rows that waited longest, with all other waiting rows of their slot."""
        slot = self._pending[0].slot
        batch = [rows for rows in self._pending if rows.slot is slot]
        self._pending = deque(rows for rows in self._pending if rows.slot is not slot)
        return batch


def split(ranges: Sequence[Part], sizes: Sequence[int], streams: int = 1) -> list[Part]:
    """Cut ranges of rows into parts of compiled sizes.

    Neighbouring ranges are joined; a part of size s begins at a multiple of s, where a request is bound.

    Args:
        ranges: (first row, number of rows), in any order, not overlapping.
        sizes: compiled batch sizes: 1, 2, 4, ...
        streams: over how many streams the rows are to be spread; no part is larger than its share.

    Returns:
        (first row, size) in ascending order.
    """
    if len(ranges) == 1 and ranges[0][1] == sizes[0]:
        return [ranges[0]]  # a single row: nearly every batch where nobody waits
    total = sum(count for _, count in ranges)
    share = -(-total // streams)
    allowed = [size for size in sizes if size <= share] or [sizes[0]]
    parts: list[Part] = []
    end = -1
    merged: list[list[int]] = []
    for first, count in sorted(ranges):
        if first == end:
            merged[-1][1] += count
        else:
            merged.append([first, count])
        end = first + count
    for first, count in merged:
        at, stop = first, first + count
        while at < stop:
            size = max(size for size in allowed if at % size == 0 and at + size <= stop)
            parts.append((at, size))
            at += size
    return parts
