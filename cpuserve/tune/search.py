"""Runs a search: measures the defaults, the hints, the points of a strategy, and the best again."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from cpuserve.errors import CpuserveError, UsageError
from cpuserve.tune.objective import Objective, Standing
from cpuserve.tune.trial import Figures, Point, Trial
from cpuserve.tune.trial_journal import TrialJournal

__all__ = ["Ended", "Measure", "Search", "SearchLimits", "Strategy"]

Measure = Callable[[Point], Figures]
"""Measures a point; a `CpuserveError` is a failed trial."""

_CONFIRMED = 3
_TRIALS_A_CONFIRMATION = 8


class Ended(Exception):
    """The limits of a search are reached."""


@dataclass(frozen=True)
class SearchLimits:
    """Limits of a search, counting the trials of earlier runs too.

    Attributes:
        trials: at most; None is no limit.
        seconds: at most; a trial that would probably end later is not begun. None is no limit.
    """

    trials: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, trials: int | None, budget: str | None) -> SearchLimits:
        """Parse limits; a budget is ``20m``, ``40s``, ``1h`` or ``1h30m``.

        Raises:
            UsageError: the budget is nothing of that kind.
        """
        if budget is None:
            return cls(trials)
        found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", budget.strip())
        hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
        total = 3600 * hours + 60 * minutes + seconds
        if not total:
            raise UsageError(f"--budget {budget[:40]!r}: give hours, minutes or seconds: 1h30m, 20m, 40s")
        return cls(trials, float(total))


class Search:
    """Measures points within limits and keeps every trial; no point is measured twice unless asked for.

    A resumed run replays its strategy over the trials it has, and so goes on where it stopped.

    Attributes:
        journal: the trials.
        objective: what is best.
        limits: how long it may be.

    Args:
        measure: measures a point.
        journal: the trials.
        objective: what is best.
        limits: how long it may be.
        on_trial: is called with every finished trial.
    """

    def __init__(
        self,
        measure: Measure,
        journal: TrialJournal,
        objective: Objective,
        limits: SearchLimits,
        on_trial: Callable[[Trial], None] = lambda _trial: None,
    ) -> None:
        self.journal = journal
        self.objective = objective
        self.limits = limits
        self._measure = measure
        self._on_trial = on_trial
        self._reserved = 1

    def measure(self, point: Point, reason: str = "search", times: int = 1) -> Standing | None:
        """The result of a point after ``times`` trials; missing trials are run.

        Returns:
            None when it failed.

        Raises:
            Ended: there is no more room for a trial.
        """
        made = self.journal.of(point)
        while len(made) < times and all(trial.figures is not None for trial in made):
            if not self.has_room:
                raise Ended
            made.append(self._try(point, reason))
        return next(iter(self.objective.standings(made)), None)

    def measure_first(self, hints: Mapping[str, Point]) -> None:
        """Measure the defaults and the points of the hints, as far as the limits allow.

        Raises:
            CpuserveError: the defaults could not be measured: there is nothing to compare with.
        """
        self._reserved = 0
        if not any(trial.reason == "default" and trial.figures for trial in self.journal.trials):
            trial = self._try(Point(), "default")
            if trial.figures is None:
                raise CpuserveError(f"the defaults could not be measured: {trial.error}")
        self._reserved = 1
        for name, point in hints.items():
            if self.has_room:
                self.measure(point, f"hint:{name}")

    def run(self, strategy: Strategy) -> None:
        """Let a strategy choose points within the limits, then measure the best and the defaults again."""
        before = len(self.journal.trials)
        expected = self.expected_trials
        confirmed = _CONFIRMED if expected is None else min(_CONFIRMED, expected // _TRIALS_A_CONFIRMATION)
        with suppress(Ended):
            self._reserved = 1 + confirmed
            strategy(self)
        with suppress(Ended):
            self._reserved = 1
            self._confirm(confirmed)
        self._reserved = 0
        trials, most = self.journal.trials, self.limits.trials
        # also past the budget, by this one trial: without it nobody knows how far the machine has drifted
        if (most is None or len(trials) < most) and (
            len(trials) > before or trials[-1].reason != "default-again"
        ):
            self._try(Point(), "default-again")

    @property
    def has_room(self) -> bool:
        """Whether the limits allow one more trial beside the reserved ones."""
        trials, limits = self.journal.trials, self.limits
        if limits.trials is not None and len(trials) + 1 + self._reserved > limits.trials:
            return False
        if limits.seconds is None or not trials:
            return True
        return self.journal.seconds + (1 + self._reserved) * self._typical_s <= limits.seconds

    @property
    def expected_trials(self) -> int | None:
        """How many trials there can be in all; None without limits."""
        found = [] if self.limits.trials is None else [self.limits.trials]
        if self.limits.seconds is not None and self.journal.trials:
            left = max(0.0, self.limits.seconds - self.journal.seconds)
            found.append(len(self.journal.trials) + int(left / max(1e-3, self._typical_s)))
        return min(found, default=None)

    @property
    def _typical_s(self) -> float:
        return statistics.median(trial.seconds for trial in self.journal.trials)

    def _confirm(self, count: int) -> None:
        """Measure the best points a second time, so that a lucky first measurement does not win."""
        while True:
            ranked = self.objective.standings(self.journal.trials)[:count]
            chosen = self.objective.best(self.journal.trials)
            points = [one.point for one in (chosen, *ranked) if one is not None and count]
            once = [point for point in points if len(self.journal.of(point)) < 2]
            if not once:
                return
            self.measure(once[0], times=2)

    def _try(self, point: Point, reason: str) -> Trial:
        began = time.monotonic()
        figures, error = None, ""
        try:
            figures = self._measure(point)
        except CpuserveError as failure:
            error = str(failure)
        seconds = time.monotonic() - began
        trial = Trial(len(self.journal.trials), point, reason, figures, error, round(seconds, 3))
        self.journal.append(trial)
        self._on_trial(trial)
        return trial


Strategy = Callable[[Search], None]
"""Calls `Search.measure` on points until it is content."""
