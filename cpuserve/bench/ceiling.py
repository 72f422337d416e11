"""Compares a server with the same work done without HTTP, measured by turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpuserve.errors import CpuserveError
from cpuserve.measuring.engine_load import LoopFigures, SeatProcesses
from cpuserve.measuring.load_window import Load, LoadWindow, Target, measure_window
from cpuserve.measuring.stable_windows import spread

__all__ = ["Ceiling", "Round", "measure_ceiling"]

_WARM_S = 1.0


@dataclass(frozen=True)
class Round:
    """One window without HTTP and one of the server, measured one after the other."""

    inside: LoopFigures
    served: LoadWindow

    @property
    def cpu(self) -> float:
        """CPU of a served image over that of one in process."""
        if self.served.cpu_ms is None:
            raise CpuserveError("no request of a whole window was answered, or the server could not be seen")
        return self.served.cpu_ms / self.inside.cpu_ms

    @property
    def per_s(self) -> float:
        """Served images a second over those in process."""
        return self.served.per_s / self.inside.per_s


@dataclass(frozen=True)
class Ceiling:
    """All rounds.

    Attributes:
        connections: clients of the server.
        rounds: all rounds, in order.
    """

    connections: int
    rounds: tuple[Round, ...]

    @property
    def errors(self) -> dict[str, int]:
        """Requests that were not answered 200, by status."""
        return LoadWindow.sum([one.served for one in self.rounds]).errors

    def figures(self) -> dict[str, Any]:
        """For a result file: the ratios first, with their noise, then every window."""
        return {
            "cpu_ratio": _summary([one.cpu for one in self.rounds]),
            "images_per_s_ratio": _summary([one.per_s for one in self.rounds]),
            "in_process": {
                "cpu_ms": _summary([one.inside.cpu_ms for one in self.rounds]),
                "images_per_s": _summary([one.inside.per_s for one in self.rounds]),
            },
            "served": {
                "connections": self.connections,
                "cpu_ms": _summary([one.cpu * one.inside.cpu_ms for one in self.rounds]),
                "images_per_s": _summary([one.served.per_s for one in self.rounds]),
                "errors": self.errors,
            },
            "rounds": [
                {
                    "in_process": {"images_per_s": one.inside.per_s, "cpu_ms": one.inside.cpu_ms},
                    "served": one.served.figures(),
                }
                for one in self.rounds
            ],
        }


def measure_ceiling(
    target: Target,
    seats: SeatProcesses,
    files: Sequence[Path],
    *,
    connections: int,
    rounds: int,
    seconds: float,
    done: Callable[[], None] = lambda: None,
) -> Ceiling:
    """Measure both by turns, so that a slow minute of the machine affects both.

    The one that is not measured waits for input and uses no CPU. The order changes from round to round.
    Without HTTP only the seats use CPU; the server shares this machine with its client.

    Args:
        target: the server.
        seats: the same work without HTTP, in the server's seats.
        files: the pictures.
        connections: clients, each with one request under way.
        rounds: how many, after a short one that does not count.
        seconds: length of each window.
        done: called after each round.
    """
    load = Load(connections=connections)
    seats.loop(min(seconds, _WARM_S))
    measure_window(target, files, load, seconds=min(seconds, _WARM_S))
    found = []
    for number in range(rounds):
        if number % 2:
            served = measure_window(target, files, load, seconds=seconds)
            found.append(Round(seats.loop(seconds), served))
        else:
            inside = seats.loop(seconds)
            found.append(Round(inside, measure_window(target, files, load, seconds=seconds)))
        done()
    return Ceiling(connections, tuple(found))


def _summary(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": statistics.median(values),
        "least": min(values),
        "most": max(values),
        "noise": spread(values),
    }
