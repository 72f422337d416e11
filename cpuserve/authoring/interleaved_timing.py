"""Times several calls in turn, so that a disturbance of the machine hits all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["Timing", "alternate", "ratio"]


@dataclass(frozen=True)
class Timing:
    """How long one call took, in milliseconds.

    Attributes:
        windows_ms: mean of each window, one a round.
    """

    windows_ms: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """Median of the windows."""
        return statistics.median(self.windows_ms)

    @property
    def noise(self) -> float:
        """Longest minus shortest window, over the median."""
        return (max(self.windows_ms) - min(self.windows_ms)) / self.median_ms


def alternate(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 7,
    seconds: float = 0.2,
    seen: Callable[[int], None] = lambda _: None,
) -> dict[str, Timing]:
    """Times calls in turn for several rounds; every other round runs in the opposite order.

    Args:
        calls: the calls by name.
        rounds: windows of each call.
        seconds: length of a window, which holds at least one call.
        seen: called with the number of each finished round, from 1.
    """
    for call in calls.values():
        call()
    found: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        for name in list(calls) if number % 2 == 0 else reversed(list(calls)):
            found[name].append(_window(calls[name], seconds))
        seen(number + 1)
    return {name: Timing(tuple(windows)) for name, windows in found.items()}


def ratio(slow: Timing, fast: Timing) -> float:
    """How many times as long ``slow`` takes as ``fast``: the median of the ratios of all rounds."""
    return statistics.median(a / b for a, b in zip(slow.windows_ms, fast.windows_ms, strict=True))


def _window(call: Callable[[], object], seconds: float) -> float:
    count, began = 0, time.perf_counter()
    while True:
        call()
        count += 1
        passed = time.perf_counter() - began
        if passed >= seconds:
            return 1000 * passed / count
