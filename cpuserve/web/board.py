"""Lines of shared memory, one a worker: which seat it has and how it does; made before the fork.

The memory is an anonymous file that the arbiter and its workers hold open, so that another process of the
same user can find it below /proc and read it, also when the server no longer answers.
"""

from __future__ import annotations

import json
import mmap
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["EMPTY", "LINK", "LOADING", "READY", "STATES", "STOPPING", "Board", "Line"]

EMPTY, LOADING, READY, STOPPING = range(4)
STATES = ("empty", "loading", "ready", "stopping")
"""The names of the states, by number."""

_NAME = "cpuserve-board"
LINK = f"/memfd:{_NAME} (deleted)"
"""What a descriptor of the memory links to in /proc/PID/fd."""

_VERSION = 3
_HEAD = 4  # words: version, first word of the lines, number of lines, bytes of JSON after the head
_PID, _STATE, _CONNECTIONS, _SEAT, _SEEN_MS, _IDLE = range(6)
_WORDS = 8  # one cache line a worker, so that workers do not write into each other's
_SILENT_MS = 1500  # a worker tells several times a second that it runs
_EVEN = 8  # connections of another worker, for each of which one more here is still even
_GENERATIONS = 3  # a reload may come while the workers of the one before it are still loading
_FREE_FIRST = (EMPTY, STOPPING, LOADING, READY)
_TELLING_FIRST = (READY, LOADING, STOPPING, EMPTY)


class Line:
    """What one worker says of itself; only the worker whose pid it holds writes, everybody reads."""

    def __init__(self, words: memoryview, number: int) -> None:
        self._words = words
        self._base = number * _WORDS

    @property
    def seat(self) -> int:
        """The seat the worker has; of no meaning on an empty line."""
        return self._words[self._base + _SEAT]

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._words[self._base + _PID]

    @pid.setter
    def pid(self, value: int) -> None:
        self._words[self._base + _PID] = value

    @property
    def state(self) -> int:
        """EMPTY, LOADING, READY or STOPPING."""
        return self._words[self._base + _STATE]

    @state.setter
    def state(self, value: int) -> None:
        self._words[self._base + _STATE] = value

    @property
    def connections(self) -> int:
        """Connections the worker holds open."""
        return self._words[self._base + _CONNECTIONS]

    @connections.setter
    def connections(self, value: int) -> None:
        self._words[self._base + _CONNECTIONS] = value

    @property
    def idle_threads(self) -> int:
        """Threads of the worker that have nothing to do."""
        return self._words[self._base + _IDLE]

    @idle_threads.setter
    def idle_threads(self, value: int) -> None:
        self._words[self._base + _IDLE] = value

    @property
    def seen_ms(self) -> int:
        """When the worker last told that it runs, on the clock of `time.monotonic`; 0 before it first did."""
        return self._words[self._base + _SEEN_MS]

    @seen_ms.setter
    def seen_ms(self, value: int) -> None:
        self._words[self._base + _SEEN_MS] = value

    @property
    def silent(self) -> bool:
        """Whether it is a ready worker that does not run: stopped by a signal, or stuck as a whole."""
        seen = self.seen_ms
        return self.state == READY and seen > 0 and time.monotonic() * 1000 - seen > _SILENT_MS

    def clear(self) -> None:
        """The worker is gone."""
        for word in range(_WORDS):
            self._words[self._base + word] = 0

    def begin(self, seat: int) -> None:
        """A worker that is about to be forked will load in ``seat``."""
        self.clear()
        self._words[self._base + _SEAT] = seat
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
        start = -(-(_HEAD * 8 + len(text)) // 64) * _WORDS
        count = _GENERATIONS * seats
        descriptor = os.memfd_create(_NAME)
        try:
            os.ftruncate(descriptor, (start + count * _WORDS) * 8)
            memory = mmap.mmap(descriptor, 0)  # it keeps a descriptor of its own as long as it lives
        finally:
            os.close(descriptor)
        memory[_HEAD * 8 : _HEAD * 8 + len(text)] = text
        words = memoryview(memory).cast("Q")
        for word, value in enumerate((_VERSION, start, count, len(text))):
            words[word] = value
        self._take(words)

    @classmethod
    def snapshot(cls, file: Path) -> Board:
        """The board of a server that runs as it is now, from a descriptor below /proc/PID/fd.

        Raises:
            OSError: the process is gone, or another user's.
            ValueError: the board is another version's.
        """
        board = cls.__new__(cls)
        content = file.read_bytes()
        if not content or len(content) % 64:
            raise ValueError(f"{len(content)} bytes are no board of this version")
        board._take(memoryview(content).cast("Q"))
        return board

    def _take(self, words: memoryview) -> None:
        version, start, count, length = words[:_HEAD]
        if version != _VERSION:
            raise ValueError(f"board version {version}, not {_VERSION}: ask with the cpuserve that serves")
        self.about: Mapping[str, Any] = json.loads(bytes(words.cast("B")[_HEAD * 8 : _HEAD * 8 + length]))
        self.lines = tuple(Line(words[start:], number) for number in range(count))

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
