"""Measures windows of load until three in a row agree."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cpuserve.measuring.load_window import Load, LoadWindow
from cpuserve.measuring.server_batches import ServerBatches

__all__ = ["LoadLevel", "measure_level", "spread"]

_AGREE = 3
_WITHIN = 0.10


@dataclass(frozen=True)
class LoadLevel:
    """One load and the windows measured under it.

    Attributes:
        load: the load.
        windows: all windows, in order.
        stable: whether the last three agreed.
        batches: what the server counted in all windows; None if it has no such metrics.
    """

    load: Load
    windows: tuple[LoadWindow, ...]
    stable: bool
    batches: ServerBatches | None = None

    @property
    def last(self) -> LoadWindow:
        """The last three windows as one: what is reported."""
        return LoadWindow.sum(self.windows[-_AGREE:])

    @property
    def noise(self) -> float:
        """Largest less smallest throughput of those windows, over their mean."""
        return spread([window.per_s for window in self.windows[-_AGREE:]])

    def figures(self) -> dict[str, Any]:
        """For a result file."""
        load, last = self.load, self.last
        return {
            "concurrency": load.connections or None,
            "request_rate": load.rate or None,
            "offered_per_s": last.offered_per_s,
            **last.figures(),
            "errors": last.errors,
            "noise": self.noise,
            "stable": self.stable,
            "windows": len(self.windows),
            "rows_a_batch": None if self.batches is None else self.batches.rows,
            "batches": None if self.batches is None else self.batches.figures(),
        }


def measure_level(
    load: Load, once: Callable[[int], LoadWindow], most: int, on_window: Callable[[LoadWindow], None]
) -> LoadLevel:
    """Measure windows until the last three agree within 10 %, or there were ``most``.

    They agree, as perf_analyzer's do, when the throughput and the median latency of each are within 10 % of
    the mean of the three. Of an open loop the share of the arrivals that was answered stands for the
    throughput, because the number of arrivals is a matter of chance. A window without an answer agrees with
    none.

    Args:
        load: the load.
        once: measures the window of a number.
        most: most windows; fewer than three never agree.
        on_window: is called with every window.
    """
    windows: list[LoadWindow] = []
    while len(windows) < most:
        windows.append(once(len(windows)))
        on_window(windows[-1])
        if _agree(windows[-_AGREE:], opened=bool(load.rate)):
            return LoadLevel(load, tuple(windows), stable=True)
    return LoadLevel(load, tuple(windows), stable=False)


def spread(values: Sequence[float]) -> float:
    """Largest less smallest, over the mean; 0 when all are 0."""
    mean = statistics.fmean(values)
    return (max(values) - min(values)) / mean if mean else 0.0


def _agree(windows: Sequence[LoadWindow], *, opened: bool) -> bool:
    if len(windows) < _AGREE or not all(window.latencies_ms for window in windows):
        return False
    rates = [len(w.latencies_ms) / w.requests if opened else w.per_s for w in windows]
    medians = [statistics.median(window.latencies_ms) for window in windows]
    return all(
        abs(value - statistics.fmean(values)) <= _WITHIN * statistics.fmean(values)
        for values in (rates, medians)
        for value in values
    )
