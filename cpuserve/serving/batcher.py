"""Gathers the rows of several requests into batches and runs them as soon as a stream is idle.

A request claims rows of the slot that is filling, writes its pictures straight into them and asks for
them to be run. With a stream idle they run at once, alone, by the thread that wrote them. With every stream
busy they wait, and the thread whose rows have waited longest takes all written rows of its slot along when
a stream becomes free (leader and followers). So batches grow with the load, and at low load no request waits.
The batcher has no thread and no timer.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from cpuserve.serving.engine import Array, Engine, Part
from cpuserve.serving.statistics import Recorder

__all__ = ["BatchRows", "Batcher", "DelayedBatcher", "SharedSlot", "split"]


class BatchRows:
    """Neighbouring rows of a slot that belong to one request.

    Attributes:
        inputs: one array [count, ...] an input, to be written.
        started_ns: when their batch was started, on the clock of `time.perf_counter_ns`.
        finished_ns: when it was done.
        led: whether the thread that wrote them ran the batch.
    """

    __slots__ = ("_turn", "batch", "count", "error", "finished_ns", "first", "led", "slot", "started_ns")

    def __init__(self, slot: SharedSlot, first: int, count: int) -> None:
        self.slot = slot
        self.first = first
        self.count = count
        self.batch: list[BatchRows] | None = None
        self.error: Exception | None = None
        self.started_ns = self.finished_ns = 0
        self.led = False
        self._turn: threading.Lock | None = None

    @property
    def inputs(self) -> tuple[Array, ...]:
        """One array [count, ...] an input."""
        end = self.first + self.count
        return tuple([array[self.first : end] for array in self.slot.memory.inputs])

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


class SharedSlot:
    """A slot and how many of its rows are taken, given back, and sent to be run by a `DelayedBatcher`."""

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
        delay_us: how long rows wait for others although a stream is idle, microseconds.
        gathers: whether requests are better run at one time than one by one, since they share batches.
    """

    delay_us = 0.0

    def __init__(self, engine: Engine, recorder: Recorder) -> None:
        self.engine = engine
        self._recorder = recorder
        self.max_batch = engine.rows
        self._least = engine.sizes[0]
        self.gathers = any(size > 1 for size in engine.sizes)
        self._lock = threading.Lock()
        self._idle_streams = engine.streams
        self._pending: deque[BatchRows] = deque()
        self._free: list[SharedSlot] = []
        self._filling = SharedSlot(engine.new_slot())

    def claim(self, count: int = 1) -> BatchRows:
        """Take ``count`` neighbouring rows, at most ``max_batch``; they must be released."""
        with self._lock:
            slot = self._filling
            if slot.claimed + count > self.max_batch:
                slot = self._filling = self._another()
            rows = BatchRows(slot, slot.claimed, count)
            slot.claimed += count
        return rows

    def _another(self) -> SharedSlot:
        return self._free.pop() if self._free else SharedSlot(self.engine.new_slot())

    def release(self, rows: BatchRows) -> None:
        """Give rows back; their outputs are no longer valid."""
        with self._lock:
            slot = rows.slot
            slot.released += rows.count
            if slot.released == slot.claimed:
                slot.claimed = slot.released = slot.sent = 0
                if slot is not self._filling:
                    self._free.append(slot)

    def run(self, rows: BatchRows) -> None:
        """Run written rows and return when their outputs are ready.

        Raises:
            Exception: what the engine raised for the batch these rows were in.
        """
        released = "idle"
        with self._lock:
            if self._idle_streams:
                batch: list[BatchRows] | None = [rows]
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

    def _lead(self, batch: list[BatchRows], streams: int, released: str) -> None:
        failure: Exception | None = None
        first = batch[0]
        first.led = True
        started = time.perf_counter_ns()
        try:
            if len(batch) == 1 and first.count == self._least:  # nearly every batch at low load
                parts: Sequence[Part] = ((first.first, first.count),)
            else:
                parts = split([(rows.first, rows.count) for rows in batch], self.engine.sizes, streams)
            self.engine.run(first.slot.memory, parts)
            self._recorder.executed(parts, time.perf_counter_ns() - started, released=released)
        except Exception as error:  # noqa: BLE001  # travels with every request of the batch
            failure = error
        finished = time.perf_counter_ns()
        with self._lock:
            following = [self._next_batch() for _ in range(streams) if self._pending] if self._pending else []
            self._idle_streams += streams - len(following)
        for rows in batch:
            rows.error, rows.started_ns, rows.finished_ns = failure, started, finished
            if rows is not first:
                rows.wake()
        for waiting in following:
            waiting[0].batch = waiting
            waiting[0].wake()

    def _next_batch(self) -> list[BatchRows]:
        """The rows that waited longest, with all other waiting rows of their slot."""
        slot = self._pending[0].slot
        batch = [rows for rows in self._pending if rows.slot is slot]
        self._pending = deque(rows for rows in self._pending if rows.slot is not slot)
        return batch


class DelayedBatcher(Batcher):
    """A batcher whose rows wait for others although a stream is idle, as with Triton's queue delay.

    The first row that is written into a slot opens a window (``max_queue_delay_microseconds``). The slot runs
    when all its rows are written or the window ends. If no stream is idle then, it waits for one.

    The rows whose window is open are in ``_windows``; those that are ready to run are pending, as with any
    batcher, and are taken by the thread that frees a stream.

    Args:
        engine: what runs the rows.
        recorder: counts the batches.
        delay_us: how long a window is open at most, microseconds.
    """

    def __init__(self, engine: Engine, recorder: Recorder, delay_us: float) -> None:
        super().__init__(engine, recorder)
        self.delay_us = delay_us
        self.gathers = self.gathers or delay_us > 0
        self._windows: dict[SharedSlot, list[BatchRows]] = {}

    def run(self, rows: BatchRows) -> None:
        """As `Batcher.run`, after the wait."""
        released, first = "idle", False
        batch: list[BatchRows] | None = None
        streams = 1
        with self._lock:
            rows.park()
            slot = rows.slot
            if any(other.slot is slot for other in self._pending):
                slot.sent += rows.count
                self._pending.append(rows)  # its slot waits for a stream only
            else:
                window = self._windows.setdefault(slot, [])
                window.append(rows)
                first = len(window) == 1
                if self._complete(slot, window):
                    batch, streams = self._close(rows)
        if batch is None and not rows.wait(self.delay_us / 1e6 if first else None):
            released = "timeout"
            with self._lock:
                if rows in self._windows.get(slot, ()):  # else another thread runs them just now
                    batch, streams = self._close(rows)
            if batch is None:
                rows.wait()
        if batch is None:
            batch, streams, released = rows.batch, 1, "gathered"
        if batch is not None:
            self._lead(batch, streams, released)
        if rows.error is not None:
            raise rows.error

    def _complete(self, slot: SharedSlot, window: list[BatchRows]) -> bool:
        """Whether no request can join any more: no row is free, and all claimed rows are written."""
        closed = slot is not self._filling or slot.claimed == self.max_batch
        return closed and slot.sent + sum(rows.count for rows in window) == slot.claimed

    def _close(self, rows: BatchRows) -> tuple[list[BatchRows] | None, int]:
        """End the window of a slot: its rows run now, led by ``rows``, or are pending.

        Who comes later claims rows of another slot, which can become a whole batch.

        Returns:
            The batch and its streams; no batch where no stream is idle.
        """
        slot = rows.slot
        window = self._windows.pop(slot)
        count = sum(other.count for other in window)
        slot.sent += count
        if slot is self._filling:
            self._filling = self._another()
        if not self._idle_streams:
            self._pending.extend(window)
            return None, 1
        return [rows, *(other for other in window if other is not rows)], self._take_streams(count)


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
