"""Rows that wait a while for company although a stream is idle: dynamic batching with a queue delay.

Triton's ``max_queue_delay_microseconds``. The first row that is written into a slot opens a window. The slot
runs when all its rows are written, or when the window ends; with no stream idle then, when one falls free.
"""

from __future__ import annotations

from cpuserve.serving.batcher import Batcher, Filling, Rows
from cpuserve.serving.engine import Engine
from cpuserve.serving.statistics import Recorder

__all__ = ["PatientBatcher"]


class PatientBatcher(Batcher):
    """A batcher whose leader waits for followers.

    The rows whose window is open are in ``_windows``; those that are ready to run are pending, as with any
    batcher, and taken by whoever gives a stream back.

    Args:
        engine: what runs the rows.
        recorder: counts the batches.
        delay_us: how long a window is open at most, microseconds.
    """

    def __init__(self, engine: Engine, recorder: Recorder, delay_us: float) -> None:
        super().__init__(engine, recorder)
        self.delay_us = delay_us
        self._windows: dict[Filling, list[Rows]] = {}

    def run(self, rows: Rows) -> None:
        """As `Batcher.run`, but for the wait."""
        released, first = "idle", False
        batch: list[Rows] | None = None
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

    def _complete(self, slot: Filling, window: list[Rows]) -> bool:
        """Whether nobody can join any more: no row is free, and all that were claimed are written."""
        closed = slot is not self._filling or slot.claimed == self.max_batch
        return closed and slot.sent + sum(rows.count for rows in window) == slot.claimed

    def _close(self, rows: Rows) -> tuple[list[Rows] | None, int]:
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
