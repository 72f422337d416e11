"""Lines of shared memory, one a worker: which seat it has and how it does; made before the fork.

Another process of the same user can find the memory below /proc and read it, also when the server no longer
answers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpuserve.sharedmem.block import Block, link
from cpuserve.sharedmem.record import Record, Word

__all__ = ["EMPTY", "LINK", "LOADING", "READY", "STATES", "STOPPING", "Board", "Line"]

EMPTY, LOADING, READY, STOPPING = range(4)
STATES = ("empty", "loading", "ready", "stopping")
"""The names of the states, by number."""

_NAME = "cpuserve-board"
LINK = link(_NAME)
"""What a descriptor of the memory links to in /proc/PID/fd."""

_VERSION = 4
_SILENT_MS = 1500  # a worker tells several times a second that it runs
_EVEN = 8  # connections of another worker, for each of which one more here is still even
_GENERATIONS = 3  # a reload may come while the workers of the one before it are still loading
_FREE_FIRST = (EMPTY, STOPPING, LOADING, READY)
_TELLING_FIRST = (READY, LOADING, STOPPING, EMPTY)


class Line(Record):
    """What one worker says of itself; the worker whose pid it holds writes, everybody reads.

    Attributes:
        pid: process id of the worker; 0 until it is forked.
        state: EMPTY, LOADING, READY or STOPPING.
        connections: that the worker holds open.
        seat: that the worker has; of no meaning on an empty line.
        seen_ms: when the worker last told that it runs, on the clock of `time.monotonic`; 0 before it did.
        idle_threads: threads of the worker with nothing to do; others take one off for what they leave here.
    """

    pid = Word()
    state = Word()
    connections = Word()
    seat = Word()
    seen_ms = Word()
    idle_threads = Word()

    @property
    def silent(self) -> bool:
        """Whether it is a ready worker that does not run: stopped by a signal, or stuck as a whole."""
        seen = self.seen_ms
        return self.state == READY and seen > 0 and time.monotonic() * 1000 - seen > _SILENT_MS

    def begin(self, seat: int) -> None:
        """A worker that is about to be forked will load in ``seat``."""
        self.clear()
        self.seat = seat
        self.state = LOADING


class Board:
    """The lines of all workers; a seat has more than one while a reload replaces its worker.

    Args:
        seats: how many there are.
        about: what the arbiter says of the server, fit for JSON; it does not change.

    Attributes:
        lines: as many as there can be workers.
        about: what was given.
    """

    def __init__(self, seats: int, about: Mapping[str, Any] | None = None) -> None:
        text = json.dumps(about or {}).encode()
        self._take(Block(_NAME, _VERSION, Record, Line, _GENERATIONS * seats, text))

    @classmethod
    def snapshot(cls, file: Path) -> Board:
        """The board of a server that runs as it is now, from a descriptor below /proc/PID/fd.

        Raises:
            OSError: the process is gone, or another user's.
            ValueError: the board is another version's.
        """
        board = cls.__new__(cls)
        board._take(Block.snapshot(file, _NAME, _VERSION, Record, Line))
        return board

    def _take(self, block: Block[Record, Line]) -> None:
        self.about: Mapping[str, Any] = json.loads(block.note)
        self.lines = block.rows

    def assign(self, seat: int) -> Line:
        """A line for a worker that is about to be forked: an empty one, else that of one which leaves."""
        line = min(self.lines, key=lambda line: _FREE_FIRST.index(line.state))
        line.begin(seat)
        return line

    def forget(self, pid: int) -> None:
        """Clear the line of a worker that is gone, if it still has one."""
        for line in self.lines:
            if line.pid == pid:
                line.clear()

    def of_seat(self, seat: int) -> Line | None:
        """The line that tells most of a seat: that of a worker that is ready before one that loads."""
        there = [line for line in self.lines if line.state != EMPTY and line.seat == seat]
        return min(there, key=lambda line: _TELLING_FIRST.index(line.state)) if there else None

    def may_accept(self, mine: Line) -> bool:
        """Whether a new connection belongs to this worker rather than to another.

        Connections go to ready workers that run, and among those to one with the fewest. With no worker ready
        any may take it, so that health checks are answered while models load.
        """
        others = [line for line in self.lines if line is not mine]
        if mine.state != READY:
            return not any(line.state in (READY, STOPPING) for line in others)
        # of many, a few more or less are even: no worker waits for another at each connection of a crowd
        return all(
            mine.connections <= line.connections + line.connections // _EVEN
            for line in others
            if line.state == READY and not line.silent
        )

    def silent(self) -> list[Line]:
        """The ready workers that do not run."""
        return [line for line in self.lines if line.silent]

    def must_stay(self, mine: Line) -> bool:
        """Whether a ready worker that is stopping still has to take connections.

        The listening socket is shared: what comes after the last worker that takes has left, and before the
        last that holds it open closes it, would be reset. So one worker stays until all others have closed.
        """
        before = True
        for line in self.lines:
            if line is mine:
                before = False
            elif line.state == LOADING or (line.state == READY and not before):
                return True
        return False

    def is_replaced(self, mine: Line) -> bool:
        """Whether another worker is loading in the same seat, so that this one has to serve until it can."""
        return any(
            line is not mine and line.state == LOADING and line.seat == mine.seat for line in self.lines
        )
