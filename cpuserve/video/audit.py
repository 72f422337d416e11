"""Estimates online how often a cascade errs, from a sample of its decisions that the reference answers too.

Which frames are in the sample depends on the seed and their number alone. Estimates and tests hold at any
time, however often they are looked at: they are betting processes (Waudby-Smith and Ramdas, 2024), weighed by
the probability with which each frame was in the sample.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

import numpy as np

from cpuserve.serving.engine import Array

__all__ = ["Audit", "DriftTest", "ErrorRate", "is_audited", "probability_of_audit"]

_NEAR = 4.0  # decisions near a threshold are looked at so much more often
_BETS = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8])  # shares of the largest bet that cannot lose all
_STARTS_EVERY = 8  # audited frames between two times at which the rate may have begun to be too high
_MOST_STARTS = 256
_RATES = np.concatenate([np.geomspace(1e-4, 0.1, 121), np.linspace(0.1, 1, 91)[1:]])
_LEAST_BUDGET = 1e-6


def probability_of_audit(rate: float, *, near: bool) -> float:
    """With which probability a decided frame is given to the reference.

    Args:
        rate: that of decisions far from all thresholds, 0 to 1.
        near: whether the score was near the threshold that decided.
    """
    return min(1.0, rate * (_NEAR if near else 1.0))


def is_audited(seed: int, number: int, probability: float) -> bool:
    """Whether a frame is in the sample: the same for the same seed and number, wherever it is decoded."""
    digest = hashlib.blake2b(number.to_bytes(8, "little"), digest_size=8, key=seed.to_bytes(8, "little"))
    return int.from_bytes(digest.digest(), "little") < probability * 2.0**64


class DriftTest:
    """Tests whether a rate of errors has been above its budget since some time.

    While the rate keeps the budget, the probability that `evidence` ever reaches 1 / alpha is at most alpha.
    Bets begin anew now and then, so that a change late in a long run is found about as soon as one at its
    start.

    Args:
        budget: the rate that may not be exceeded, 0 to 1.

    Attributes:
        evidence: what the bets have won; 1 at the start.
    """

    def __init__(self, budget: float) -> None:
        self._budget = max(budget, _LEAST_BUDGET)
        self._logs = np.empty((0, len(_BETS)))  # logarithm of each bet's capital, by start and bet
        self._seen = 0
        self._placed = 0.0  # share of the capital that has been put on bets; the rest is kept for later ones
        self.evidence = 1.0

    def update(self, weight: float, *, error: bool) -> None:
        """Take one more audited frame for which the error was possible.

        Args:
            weight: smallest probability of an audit over this frame's, above 0 and at most 1.
            error: whether the cascade erred.
        """
        if self._seen % _STARTS_EVERY == 0:
            self._start(self._seen // _STARTS_EVERY + 1)
        self._seen += 1
        gain = weight * (float(error) - self._budget) / self._budget
        self._logs += np.log1p(_BETS * gain)
        largest = float(self._logs.max())
        won = math.exp(min(largest, 700.0)) * float(np.exp(self._logs - largest).sum())
        self.evidence = won + 1 - self._placed

    def _start(self, place: int) -> None:
        """Puts 1 / (place * (place + 1)) of the capital on bets that begin now."""
        share = 1 / (place * (place + 1))
        self._placed += share
        new = np.full((1, len(_BETS)), math.log(share / len(_BETS)))
        self._logs = np.concatenate([self._logs, new])
        if len(self._logs) > _MOST_STARTS:  # forgotten capital makes the test no less right
            weakest = int(self._logs.max(axis=1).argmin())
            self._logs = np.delete(self._logs, weakest, axis=0)


class ErrorRate:
    """The share of frames with errors, estimated from weighed frames, with bounds that hold at any time.

    Attributes:
        audited: frames seen.
        errors: errors among them.
    """

    def __init__(self) -> None:
        self.audited = 0
        self.errors = 0
        self._weight = 0.0
        self._error_weight = 0.0
        self._too_low = np.zeros((len(_BETS), len(_RATES)))  # log capital of bets that the rate is above
        self._too_high = np.zeros((len(_BETS), len(_RATES)))  # and below each of the rates

    def update(self, weight: float, *, error: bool) -> None:
        """Take one more frame; see `DriftTest.update`."""
        self.audited += 1
        self.errors += error
        self._weight += weight
        self._error_weight += weight * error
        excess = weight * (float(error) - _RATES)
        self._too_low += np.log1p(np.outer(_BETS, excess / _RATES))
        self._too_high += np.log1p(np.outer(_BETS, -excess))

    @property
    def estimate(self) -> float | None:
        """The share; None before the first frame."""
        return self._error_weight / self._weight if self._weight else None

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Between what the share is, with that confidence: 0 and 1 before the first frame."""
        limit = math.log(2 / (1 - confidence))
        low = _RATES[_mean_capital(self._too_low) >= limit]
        high = _RATES[_mean_capital(self._too_high) >= limit]
        return float(low.max(initial=0.0)), float(high.min(initial=1.0))


def _mean_capital(logs: Array) -> Array:
    """Logarithm of the mean over the bets of capital given as logarithms."""
    largest = logs.max(axis=0)
    found: Array = largest + np.log(np.exp(logs - largest).mean(axis=0))
    return found


@dataclass
class Audit:
    """What the reference said of decided frames.

    A missed frame (FN) is one that the reference sees the object in and the cascade does not; a falsely
    reported one (FP) the other way round.

    Attributes:
        fn_budget: share of the frames with the object that may be missed.
        fp_budget: share of the frames without it that may be reported.
        confidence: with which an alarm is right, and estimates hold.
        rate: smallest probability of an audit.
        missed: FN.
        false: FP.
        by_stage: audited frames and errors by the stage that decided.
    """

    fn_budget: float
    fp_budget: float
    confidence: float
    rate: float
    missed: ErrorRate = field(default_factory=ErrorRate)
    false: ErrorRate = field(default_factory=ErrorRate)
    by_stage: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Test anew: thresholds have changed."""
        self._fn_test, self._fp_test = DriftTest(self.fn_budget), DriftTest(self.fp_budget)

    def add(self, stage: str, probability: float, *, label: bool, truth: bool) -> None:
        """Take the reference's answer to a decided frame; in the order of the frames.

        Args:
            stage: what decided.
            probability: with which the frame was audited.
            label: the cascade's.
            truth: the reference's.
        """
        weight, error = self.rate / probability, label != truth
        rate, test = (self.missed, self._fn_test) if truth else (self.false, self._fp_test)
        rate.update(weight, error=error)
        test.update(weight, error=error)
        counts = self.by_stage.setdefault(stage, [0, 0])
        counts[0] += 1
        counts[1] += error

    def broken(self) -> list[str]:
        """The budgets that are exceeded: of ``fn`` and ``fp``.

        While both are kept, the probability that one is ever named is at most 1 - confidence.
        """
        limit = 2 / (1 - self.confidence)
        tests = {"fn": self._fn_test, "fp": self._fp_test}
        return [name for name, test in tests.items() if test.evidence >= limit]
