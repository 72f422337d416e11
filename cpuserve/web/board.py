"""A line of shared memory for each seat: who sits there and how it does; it is made before the fork."""

from __future__ import annotations

import mmap

__all__ = ["EMPTY", "LOADING", "READY", "STOPPING", "Board", "Line"]

EMPTY, LOADING, READY, STOPPING = range(4)
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
    """

    def __init__(self, seats: int) -> None:
        self._memory = mmap.mmap(-1, seats * _WORDS * 8)  # shared with the processes forked later
        words = memoryview(self._memory).cast("Q")
        self.lines = tuple(Line(words, seat) for seat in range(seats))

    def may_accept(self, seat: int) -> bool:
        """Whether a new connection belongs to this seat rather than to another.

        Connections go to ready workers, and among those to one with the fewest. With no worker ready any may
        take it, so that health checks are answered while models load.
        """
        mine = self.lines[seat]
        others = [line for line in self.lines if line.state == READY and line is not mine]
        if mine.state != READY:
            return not others
        return all(mine.connections <= line.connections for line in others)
