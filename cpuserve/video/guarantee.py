"""Proves that a cascade keeps its budgets: bounds on events it was not chosen on, at the confidence asked.

Neighbouring windows are alike, so windows are not counted as if each told something new. An event is a run
of windows with the same true label, however long; only one that is longer than all before the proof is cut.
Errors within an event may depend on each other in any way: a car that is parked for an hour is missed for an
hour. What is assumed: events are independent of each other, and the time to come is like the time that was
labelled.

The bound is a betting bound, as BARGAIN's (arXiv 2509.02896). Under the hypothesis that a share b of the
windows is wrong or more, the product over events of size n with e wrong windows of

    1 - t (e - b n) / ((1 - b) longest)

is on average 1 at most, so that it exceeds 1 / alpha with a probability of alpha at most. Where windows are
events (``longest`` = 1), the Clopper-Pearson bound is at choice too. Which bound and which stake ``t`` to
take is decided on the events that the cascade was chosen on, before those of the proof are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpuserve.errors import UsageError
from cpuserve.video.windows import clopper_pearson

__all__ = [
    "Budgets",
    "ErrorBound",
    "EventErrors",
    "expected_growth",
    "growth",
    "planned_stake",
    "upper_bound",
]

_STAKES = (1.0, 0.75, 0.5, 0.25, 0.1)
_HALVINGS = 50
_EXACT = 0.0  # stands for the stake of the Clopper-Pearson bound


@dataclass(frozen=True)
class Budgets:
    """What may be wrong.

    Attributes:
        fn: share of the windows with the object that may be labelled negative, above 0, below 1.
        fp: share of the windows without it that may be labelled positive, above 0, below 1.
        confidence: probability that a promise to keep both is kept. A promise that is broken has passed the
            test of a budget that is broken, which happens with probability 1 - confidence at most; so both
            are tested at this confidence, and nothing is lost by there being two. That the two bounds shown
            hold together is less certain: 1 - 2 (1 - confidence).

    Raises:
        UsageError: a number is out of range.
    """

    fn: float
    fp: float
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for name, value in (("fn", self.fn), ("fp", self.fp), ("confidence", self.confidence)):
            if not 0 < value < 1:
                raise UsageError(f"{name} is above 0 and below 1, not {value:g}")

    @property
    def alpha(self) -> float:
        """The probability that a promise may be broken with."""
        return 1 - self.confidence


@dataclass(frozen=True)
class EventErrors:
    """Events of one true label, and how many windows of each are wrong.

    Attributes:
        sizes: windows of each event, [k].
        wrong: wrong windows of each, [k].
    """

    sizes: NDArray[np.int64]
    wrong: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        truth: NDArray[np.bool_],
        labels: NDArray[np.bool_],
        stretch: NDArray[np.int64],
        longest: int,
        *,
        positive: bool,
    ) -> EventErrors:
        """The events of a labelled time.

        Args:
            truth: true label of each window, [n].
            labels: label of each window, [n].
            stretch: number of the stretch of time that each window is in, [n]; an event ends with it.
            longest: windows after which an event is cut.
            positive: events with the object; else those without it.
        """
        if not len(truth):
            return cls(np.zeros(0, np.int64), np.zeros(0, np.int64))
        begins = np.ones(len(truth), bool)
        begins[1:] = (truth[1:] != truth[:-1]) | (stretch[1:] != stretch[:-1])
        places = np.arange(len(truth))
        since = places - np.maximum.accumulate(np.where(begins, places, 0))
        event = np.cumsum(since % longest == 0) - 1
        chosen = truth == positive
        sizes = np.bincount(event[chosen], minlength=event[-1] + 1)
        wrong = np.bincount(event[chosen], (labels != truth)[chosen], minlength=event[-1] + 1)
        kept = sizes > 0
        return cls(sizes[kept], wrong[kept].astype(np.int64))

    @property
    def windows(self) -> int:
        """Windows in all of them."""
        return int(self.sizes.sum())

    @property
    def errors(self) -> int:
        """Wrong windows in all of them."""
        return int(self.wrong.sum())

    @property
    def rate(self) -> float | None:
        """The share of windows that are wrong; None of no windows."""
        return self.errors / self.windows if self.windows else None


@dataclass(frozen=True)
class ErrorBound:
    """An upper bound of a share of wrong windows.

    Attributes:
        bound: the share, 0 to 1.
        method: ``betting`` or ``Clopper-Pearson``.
        longest: windows after which events were cut.
        windows: windows it rests on.
        wrong: those that are wrong.
        events: events they are in.
        wrong_events: events with a wrong window.
    """

    bound: float
    method: str
    longest: int
    windows: int
    wrong: int
    events: int
    wrong_events: int

    @classmethod
    def of(cls, events: EventErrors, longest: int, stake: float, alpha: float) -> ErrorBound:
        """The bound of these events with a stake that was planned without them."""
        return cls(
            bound=upper_bound(events, longest, stake, alpha),
            method="betting" if stake else "Clopper-Pearson",
            longest=longest,
            windows=events.windows,
            wrong=events.errors,
            events=len(events.sizes),
            wrong_events=int(np.count_nonzero(events.wrong)),
        )


def upper_bound(events: EventErrors, longest: int, stake: float, alpha: float) -> float:
    """The share of wrong windows that is not exceeded, at confidence 1 - alpha.

    Args:
        events: of one true label.
        longest: windows after which they were cut.
        stake: as `planned_stake` gave it.
        alpha: probability that the bound is wrong.
    """
    if stake == _EXACT:
        return clopper_pearson(events.errors, events.windows, 1 - 2 * alpha)[1]
    wanted, low, high = -math.log(alpha), 0.0, 1.0
    for _ in range(_HALVINGS):
        share = (low + high) / 2
        low, high = (low, share) if growth(events, longest, stake, share) >= wanted else (share, high)
    return high


def growth(events: EventErrors, longest: int, stake: float, share: float) -> float:
    """The logarithm of what bets against ``share`` win on these events; it grows with the share."""
    if share >= 1:
        return math.inf
    excess = (events.wrong - share * events.sizes) / ((1 - share) * longest)
    with np.errstate(divide="ignore"):
        return float(np.log(np.maximum(0, 1 - stake * excess)).sum())


def planned_stake(pilot: EventErrors, longest: int, windows: int, alpha: float) -> float:
    """The stake that promises the lowest bound, or 0 for the Clopper-Pearson bound.

    Args:
        pilot: events that the cascade was chosen on.
        longest: windows after which they were cut.
        windows: windows of that label that the proof will have.
        alpha: probability that the bound may be wrong.
    """
    if not pilot.windows or not windows:
        return 1.0
    times = max(1, round(windows / pilot.windows))
    expected = EventErrors(np.tile(pilot.sizes, times), np.tile(pilot.wrong, times))
    stakes: Sequence[float] = (*_STAKES, _EXACT) if longest == 1 else _STAKES
    return min(stakes, key=lambda stake: upper_bound(expected, longest, stake, alpha))


def expected_growth(sizes: NDArray[np.int64], rate: float, longest: int, share: float) -> float:
    """What bets against ``share`` can be expected to win on such events, as a logarithm, with the best stake.

    Args:
        sizes: windows of each event.
        rate: share of windows that are wrong; whole events are taken to be.
        longest: windows after which events were cut.
        share: that the bets are against.
    """
    if not len(sizes):
        return 0.0
    relative = sizes / longest
    best = -math.inf
    for stake in _STAKES:
        right = np.log1p(stake * share / (1 - share) * relative)
        with np.errstate(divide="ignore"):
            lost = np.log1p(-stake * relative) if rate else np.zeros(len(sizes))
        best = max(best, float(((1 - rate) * right + rate * lost).sum()))
    return best
