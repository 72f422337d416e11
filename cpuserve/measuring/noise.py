"""Repeats windows during which other programs used too much CPU."""

from __future__ import annotations

from collections.abc import Callable

from cpuserve.measuring.load_window import LoadWindow

__all__ = ["QuietWindows", "foreign_cores"]


def foreign_cores(window: LoadWindow) -> float:
    """Cores that other programs used during a window."""
    return window.foreign_cpu_s / window.wall_s if window.wall_s else 0.0


class QuietWindows:
    """Measures windows, and repeats those in which other programs used too much CPU.

    After ``most`` repetitions every window counts, so that a machine that is never quiet has figures too;
    `spoiled` says how many.

    Args:
        once: measures the window of a number.
        limit: cores that other programs may use.
        most: most windows that may be repeated.
        on_window: is called with each window and whether it counts.

    Attributes:
        repeated: windows that were measured again.
        spoiled: windows that count although other programs used too much CPU.
    """

    def __init__(
        self,
        once: Callable[[int], LoadWindow],
        *,
        limit: float,
        most: int,
        on_window: Callable[[LoadWindow, bool], None],
    ) -> None:
        self._once = once
        self._limit = limit
        self._most = most
        self._on_window = on_window
        self.repeated = 0
        self.spoiled = 0

    def __call__(self, number: int) -> LoadWindow:
        """Measure until a window counts."""
        while True:
            window = self._once(number)
            quiet = foreign_cores(window) <= self._limit
            if quiet or self.repeated >= self._most:
                self.spoiled += not quiet
                self._on_window(window, True)
                return window
            self.repeated += 1
            self._on_window(window, False)
