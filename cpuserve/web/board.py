"""A line of shared memory for each seat: who sits there and how it does; it is made before the fork.

The memory is an anonymous file that the arbiter and its workers hold open, so that another process of the
same user can find it below /proc and read it, also when the server no longer answers.
"""

from __future__ import annotations

import json
import mmap
import os
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

_VERSION = 1
_HEAD = 4  # words: version, first word of the lines, seats, bytes of JSON after the head
_PID, _STATE, _CONNECTIONS = range(3)
_WORDS = 8  # one cache line a seat, so that workers do not write into each other's


class Line:
    """What one worker says of itself; only the worker whose pid it holds writes, everybody reads."""

    def __init__(self, words: memoryview, seat: int) -> None:
        self._words = words
        self._base = seat * _WORDS

    @property
    def pid(self) -> int:
        """Process id of the worker in the seat."""
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

    def clear(self) -> None:
        """The seat is empty: its worker is gone."""
        for word in range(_WORDS):
            self._words[self._base + word] = 0


class Board:
    """The lines of all seats.

    Args:
        seats: how many there are.
        about: what the arbiter says of the server, fit for JSON; it does not change.

    Attributes:
        lines: by seat.
        about: what was given.
    """

    def __init__(self, seats: int, about: Mapping[str, Any] | None = None) -> None:
        text = json.dumps(about or {}).encode()
        start = -(-(_HEAD * 8 + len(text)) // 64) * _WORDS
        descriptor = os.memfd_create(_NAME)
        try:
            os.ftruncate(descriptor, (start + seats * _WORDS) * 8)
            memory = mmap.mmap(descriptor, 0)  # it keeps a descriptor of its own as long as it lives
        finally:
            os.close(descriptor)
        memory[_HEAD * 8 : _HEAD * 8 + len(text)] = text
        words = memoryview(memory).cast("Q")
        for word, value in enumerate((_VERSION, start, seats, len(text))):
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
        board._take(memoryview(file.read_bytes()).cast("Q"))
        return board

    def _take(self, words: memoryview) -> None:
        version, start, seats, length = words[:_HEAD]
        if version != _VERSION:
            raise ValueError(f"board version {version}, not {_VERSION}: ask with the cpuserve that serves")
        self.about: Mapping[str, Any] = json.loads(bytes(words.cast("B")[_HEAD * 8 : _HEAD * 8 + length]))
        self.lines = tuple(Line(words[start:], seat) for seat in range(seats))

    def may_accept(self, seat: int) -> bool:
        """Whether a new connection belongs to this seat rather than to another.

        Connections go to ready workers, and among those to one with the fewest. With no worker ready any may
        take it, so that health checks are answered while models load.
        """
        mine = self.lines[seat]
        others = [line for line in self.lines if line is not mine]
        if mine.state != READY:
            return not any(line.state in (READY, STOPPING) for line in others)
        others = [line for line in others if line.state == READY]
        return all(mine.connections <= line.connections for line in others)

    def must_stay(self, seat: int) -> bool:
        """Whether a ready worker that is stopping still has to take connections.

        The listening socket is shared: what comes after the last worker that takes has left, and before the
        last that holds it open closes it, would be reset. So one worker stays until all others have closed.
        """
        return any(
            line.state == LOADING or (line.state == READY and other > seat)
            for other, line in enumerate(self.lines)
            if other != seat
        )
