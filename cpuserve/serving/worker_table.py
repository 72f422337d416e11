"""A table in shared memory with one row a worker: its seat, its state, its connections.

The arbiter makes it before it forks. Another process of the same user finds the memory below /proc and can
read it, also when the server no longer answers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpuserve.errors import UsageError
from cpuserve.sharedmem.block import Block, link
from cpuserve.sharedmem.record import Record, Word

__all__ = ["EMPTY", "LINK", "LOADING", "READY", "STATES", "STOPPING", "WorkerRow", "WorkerTable"]

EMPTY, LOADING, READY, STOPPING = range(4)
STATES = ("empty", "loading", "ready", "stopping")
"""The names of the states, by number."""

_NAME = "cpuserve-workers"
LINK = link(_NAME)
"""What a descriptor of the memory links to in /proc/PID/fd."""

_VERSION = 7  # of the layout and of the description
_HANGS_AFTER_MS = 1500  # a running worker writes its row several times a second
_EVEN = 8  # connections of another worker, for each of which one more here is still even
_MOST_BYTES = 16 << 20  # whoever looks for servers reads all of it
_GENERATIONS = 3  # a reload may come while the workers of the one before it are still loading
_REUSED_FIRST = (EMPTY, STOPPING, LOADING, READY)
_SHOWN_FIRST = (READY, LOADING, STOPPING, EMPTY)


class WorkerRow(Record):
    """The row of one worker; the worker whose pid it holds writes it, every process reads it.

    Attributes:
        pid: process id of the worker; 0 until it is forked.
        state: EMPTY, LOADING, READY or STOPPING.
        connections: that the worker holds open.
        seat: the worker's seat; unused in an empty row.
        seen_ms: when the worker last wrote this row, on the clock of `time.monotonic`; 0 before it did.
        idle_threads: threads of the worker with nothing to do; other workers take one off for each request
            they leave here.
        grpc_channels: clients' gRPC channels with a call in the last minute.
    """

    pid = Word()
    state = Word()
    connections = Word()
    seat = Word()
    seen_ms = Word()
    idle_threads = Word()
    grpc_channels = Word()

    @property
    def hangs(self) -> bool:
        """Whether it is a ready worker that does not run: stopped by a signal, or blocked as a whole."""
        seen = self.seen_ms
        return self.state == READY and seen > 0 and time.monotonic() * 1000 - seen > _HANGS_AFTER_MS

    def begin(self, seat: int) -> None:
        """Mark the row as that of a worker loading in ``seat``, which is about to be forked."""
        self.clear()
        self.seat = seat
        self.state = LOADING


class WorkerTable:
    """The rows of all workers; a seat has more than one while a reload replaces its worker.

    Args:
        seats: how many there are.
        description: what other processes may know of the server, fit for JSON; it does not change.

    Attributes:
        rows: as many as there can be workers.
        description: what was given.

    Raises:
        UsageError: the description is longer than 16 MiB, which only its settings can be.
    """

    def __init__(self, seats: int, description: Mapping[str, Any] | None = None) -> None:
        text = json.dumps(description or {}).encode()
        if len(text) > _MOST_BYTES:
            raise UsageError(
                f"the settings take {len(text)} bytes as JSON, more than {_MOST_BYTES}: shorten "
                "[models.NAME] of the settings file or the config.json"
            )
        self._take(Block(_NAME, _VERSION, Record, WorkerRow, _GENERATIONS * seats, text))

    @classmethod
    def snapshot(cls, file: Path) -> WorkerTable:
        """A copy of a running server's table, from a descriptor below /proc/PID/fd.

        Raises:
            OSError: the process is gone, or another user's.
            ValueError: the table is another version's.
        """
        table = cls.__new__(cls)
        table._take(Block.snapshot(file, _NAME, _VERSION, Record, WorkerRow))
        return table

    def _take(self, block: Block[Record, WorkerRow]) -> None:
        self.description: Mapping[str, Any] = json.loads(block.note)
        self.rows = block.rows

    def assign(self, seat: int) -> WorkerRow:
        """A row for a worker that is about to be forked: an empty one, else that of a stopping worker."""
        row = min(self.rows, key=lambda row: _REUSED_FIRST.index(row.state))
        row.begin(seat)
        return row

    def forget(self, pid: int) -> None:
        """Clear the row of a worker that is gone, if it still has one."""
        for row in self.rows:
            if row.pid == pid:
                row.clear()

    def of_seat(self, seat: int) -> WorkerRow | None:
        """The row to show for a seat: a ready worker's before a loading one's."""
        there = [row for row in self.rows if row.state != EMPTY and row.seat == seat]
        return min(there, key=lambda row: _SHOWN_FIRST.index(row.state)) if there else None

    def may_accept(self, mine: WorkerRow) -> bool:
        """Whether this worker, rather than another, should accept a new connection.

        A ready worker that runs and has the fewest connections should. With no worker ready any may, so that
        health checks are answered while models load.
        """
        others = [row for row in self.rows if row is not mine]
        if mine.state != READY:
            return not any(row.state in (READY, STOPPING) for row in others)
        # of many, a few more or less are even: no worker waits for another at each connection of a crowd
        return all(
            mine.connections <= row.connections + row.connections // _EVEN
            for row in others
            if row.state == READY and not row.hangs
        )

    def hanging(self) -> list[WorkerRow]:
        """The rows of ready workers that do not run."""
        return [row for row in self.rows if row.hangs]

    def must_stay(self, mine: WorkerRow) -> bool:
        """Whether a ready worker that is stopping still has to accept connections.

        The listening socket is shared. A connection after the last accepting worker has left, and before the
        last worker closes the socket, would be reset. So one worker stays until all others have
        closed it.
        """
        before = True
        for row in self.rows:
            if row is mine:
                before = False
            elif row.state == LOADING or (row.state == READY and not before):
                return True
        return False

    def is_replaced(self, mine: WorkerRow) -> bool:
        """Whether another worker is loading in the same seat, so that this one has to serve until it can."""
        return any(row is not mine and row.state == LOADING and row.seat == mine.seat for row in self.rows)
