"""Counts the requests under way of each server, and finds the one with the fewest in constant time."""

from __future__ import annotations

import random

__all__ = ["RequestCounts"]


class RequestCounts:
    """Requests under way of each server, as one balancer knows them.

    Args:
        servers: how many there are; all are listed at first.
        dice: chooses among equals.
    """

    def __init__(self, servers: int, dice: random.Random) -> None:
        self._of = [0] * servers
        self._levels: list[list[int]] = [list(range(servers))]
        self._place = list(range(servers))  # of each server in its level; -1: it is not listed
        self._dice = dice

    def __getitem__(self, server: int) -> int:
        return self._of[server]

    def change(self, server: int, by: int) -> None:
        """Count so many more."""
        listed = self._place[server] >= 0
        if listed:
            self.unlist(server)
        self._of[server] += by
        if listed:
            self.list(server)

    def list(self, server: int) -> None:
        """Let it be chosen."""
        if self._place[server] >= 0:
            return
        count = self._of[server]
        while len(self._levels) <= count:
            self._levels.append([])
        self._place[server] = len(self._levels[count])
        self._levels[count].append(server)

    def unlist(self, server: int) -> None:
        """Leave it out."""
        place = self._place[server]
        if place < 0:
            return
        level = self._levels[self._of[server]]
        last = level.pop()
        if last != server:
            level[place] = last
            self._place[last] = place
        self._place[server] = -1

    def least(self, avoid: int) -> int | None:
        """One of those with the fewest, at random; ``avoid`` only when there is no other; None for none."""
        for level in self._levels:
            if level and level != [avoid]:
                found = self._dice.choice(level)
                while found == avoid:
                    found = self._dice.choice(level)
                return found
        return avoid if avoid >= 0 and self._place[avoid] >= 0 else None
