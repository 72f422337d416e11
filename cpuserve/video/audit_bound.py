"""Bounds the share of wrong labels of a running cascade from a random sample, valid at any time.

Each decided label is checked with a probability that is fixed before its true label is known. That chance is
all that the bounds rest on: they hold for every video, however its errors come together and however often one
looks. Under the hypothesis that the share so far is at most (or at least) some value, the product of the bets
below is a martingale or smaller, so that it is ever above 1 / alpha with a probability of alpha at most
(Ville's inequality). A label that is checked with probability p changes the product by

    (1 + (exp(c) - 1) / p) exp(-c)  if it is checked, and by  exp(-c)  if not,

which is 1 on average. With c1 for wrong labels and c2 = -c1 budget / (1 - budget) for right ones the factors
exp(-c) of all labels together are at least 1 under the hypothesis, and only the checked ones are left.
"""

from __future__ import annotations

import enum
import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpuserve.errors import UsageError

__all__ = ["AuditBound", "AuditMonitor", "AuditState", "AuditVerdict", "AuditedRate", "detection_samples"]

_STAKES_ABOVE = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # what a wrong label adds, as a multiple
_STAKES_BELOW = (1.0, 0.75, 0.5, 0.25)  # what a wrong label takes away, as a share
_HALVINGS = 50  # of an interval of shares
_LARGEST_SHARE = 1 - 1e-9


@dataclass(frozen=True)
class AuditedRate:
    """A share of wrong labels, estimated from a sample.

    Attributes:
        low: lower bound, 0 to 1.
        value: estimate, weighted by the inverse probabilities; None before any label of the kind was checked.
        high: upper bound.
        wrong: wrong labels in the sample.
        checked: labels of this kind in the sample, those of the reference itself left out.
    """

    low: float
    value: float | None
    high: float
    wrong: int
    checked: int


class AuditBound:
    """Bounds one share, such as that of positives that are missed, of all labels so far.

    Args:
        alpha: probability that an upper (or a lower) bound is ever wrong.
        least_probability: labels are checked with at least this probability, above 0, at most 1.

    Raises:
        UsageError: the probability is out of range.
    """

    def __init__(self, alpha: float, least_probability: float) -> None:
        if not 0 < least_probability <= 1:
            raise UsageError(f"labels are checked with a probability above 0, not {least_probability}")
        self._alpha, self._least = alpha, least_probability
        # how many right and wrong ones were checked, by their probability
        self._counts: defaultdict[float, list[int]] = defaultdict(lambda: [0, 0])

    def add(self, *, wrong: bool, probability: float, count: int = 1) -> None:
        """Take in labels that were checked.

        Args:
            wrong: whether they are.
            probability: with which each of them was to be checked; 1 for those of the reference itself.
            count: how many.

        Raises:
            UsageError: the probability is below ``least_probability``, or above 1.
        """
        if not self._least <= probability <= 1:
            raise UsageError(
                f"a label was checked with probability {probability:g}, and the bound expects "
                f"{self._least:g} to 1"
            )
        self._counts[probability][int(wrong)] += count

    @property
    def rate(self) -> AuditedRate:
        """The estimate and its bounds, each of them right at all times with probability 1 - alpha."""
        probability, right, wrong = self._columns()
        total = float(((right + wrong) / probability).sum())
        sampled = probability < 1
        return AuditedRate(
            low=self._low(),
            value=float((wrong / probability).sum()) / total if total else None,
            high=self._high(),
            wrong=int(wrong.sum()),
            checked=int((right + wrong)[sampled].sum()),
        )

    def evidence_above(self, share: float) -> float:
        """The logarithm of the evidence that more than this share is wrong; log(1 / alpha) is enough."""
        probability, right, wrong = self._columns()
        gains = np.log1p(np.array(_STAKES_ABOVE) * self._least)
        losses = -gains * share / (1 - share)
        allowed = -losses <= -math.log1p(-self._least) if self._least < 1 else np.ones(len(gains), bool)
        return self._mixture(gains, losses, allowed, probability, right, wrong)

    def evidence_below(self, share: float) -> float:
        """The logarithm of the evidence that less than this share is wrong; log(1 / alpha) is enough."""
        probability, right, wrong = self._columns()
        most = -math.log1p(-min(self._least, _LARGEST_SHARE))
        losses = -np.array(_STAKES_BELOW) * most
        gains = -losses * share / (1 - share)
        return self._mixture(losses, gains, np.ones(len(losses), bool), probability, right, wrong)

    def _mixture(
        self,
        of_wrong: NDArray[np.float64],
        of_right: NDArray[np.float64],
        allowed: NDArray[np.bool_],
        *counts: NDArray[np.float64],
    ) -> float:
        """The logarithm of the mean of the products, one for each stake [k]."""
        probability, right, wrong = counts
        by_wrong = _log_factor(of_wrong[:, None], probability)
        by_right = _log_factor(of_right[:, None], probability)
        with np.errstate(invalid="ignore"):  # minus infinity, no times
            products = np.where(wrong > 0, wrong * by_wrong, 0) + np.where(right > 0, right * by_right, 0)
        logs = np.where(allowed, products.sum(axis=1), -math.inf)
        most = float(logs.max())
        if math.isinf(most):
            return most
        return most + math.log(float(np.exp(logs - most).mean()))

    def _low(self) -> float:
        """The largest share that the evidence excludes from below."""
        wanted = -math.log(self._alpha)
        if not self._counts or self.evidence_above(0.0) < wanted:
            return 0.0
        low, high = 0.0, _LARGEST_SHARE
        for _ in range(_HALVINGS):
            share = (low + high) / 2
            low, high = (share, high) if self.evidence_above(share) >= wanted else (low, share)
        return low

    def _high(self) -> float:
        """The least share that the evidence excludes from above."""
        wanted = -math.log(self._alpha)
        if not self._counts or self.evidence_below(_LARGEST_SHARE) < wanted:
            return 1.0
        low, high = 0.0, _LARGEST_SHARE
        for _ in range(_HALVINGS):
            share = (low + high) / 2
            low, high = (low, share) if self.evidence_below(share) >= wanted else (share, high)
        return high

    def _columns(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Probabilities, and how many right and wrong labels were checked with each."""
        counts = np.array(list(self._counts.values()), float).reshape(-1, 2)
        return np.array(list(self._counts), float), counts[:, 0], counts[:, 1]


def _log_factor(change: NDArray[np.float64], probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logarithm of 1 + (exp(change) - 1) / probability, minus infinity where that is below 0.

    A large change is no infinity: 0 times that would be no number.
    """
    lost = (1 - probability) * np.exp(np.minimum(-change, 0))
    with np.errstate(divide="ignore"):
        rest = np.log(np.maximum(np.exp(np.minimum(change, 0)) - lost, 0))
    found: NDArray[np.float64] = np.maximum(change, 0) + rest - np.log(probability)
    return found


class AuditState(enum.Enum):
    """How a budget stands."""

    OPEN = "too few labels were checked to say"
    HOLDS = "kept"
    DANGER = "in danger"
    BROKEN = "broken"


@dataclass(frozen=True)
class AuditVerdict:
    """What the labels checked so far say.

    Attributes:
        state: of the worse of both budgets.
        fn: share of true positives that are labelled negative.
        fp: share of true negatives that are labelled positive.
        broken: ``fn``, ``fp``, both or none: the budgets that are broken.
        words: a sentence on it.
    """

    state: AuditState
    fn: AuditedRate
    fp: AuditedRate
    broken: tuple[str, ...]
    words: str


class AuditMonitor:
    """Watches both budgets of a running cascade, over all labels and over the latest ones.

    The probability that it ever finds a budget broken while it was kept all the time is at most
    1 - confidence. A quarter of that is spent on all labels for each budget, a quarter on the latest
    ones: their bound begins anew after ``recent`` checked labels, the j-th time with 1 / (j (j + 1)) of it.

    Args:
        fn: budget for the share of true positives that are labelled negative, 0 to 1.
        fp: budget for the share of true negatives that are labelled positive, 0 to 1.
        confidence: of the alarms and of the bounds, 0 to 1.
        least_probability: labels are checked with at least this probability.
        recent: checked labels of a kind after which the latest ones are counted anew; by default as many as
            a doubled share needs to be found.

    Raises:
        UsageError: a number is out of range.
    """

    def __init__(
        self, fn: float, fp: float, confidence: float, least_probability: float, recent: int | None = None
    ) -> None:
        for name, value in (("fn", fn), ("fp", fp), ("confidence", confidence)):
            if not 0 < value < 1:
                raise UsageError(f"{name} is between 0 and 1, not {value}")
        self._alpha = 1 - confidence
        self._kinds = {
            name: _WatchedBudget(name, budget, self._alpha, least_probability, recent)
            for name, budget in (("fn", fn), ("fp", fp))
        }

    def add(self, *, label: bool, truth: bool, probability: float, count: int = 1) -> None:
        """Take in labels that were checked; those of the reference itself with probability 1.

        Args:
            label: what the cascade said.
            truth: what the reference says.
            probability: with which each was to be checked, fixed before ``truth`` was known. It takes a few
                different values, one for each stratum.
            count: how many.

        Raises:
            UsageError: the probability is below the least one, or above 1.
        """
        kind = self._kinds["fn" if truth else "fp"]
        kind.add(wrong=label != truth, probability=probability, count=count)

    @property
    def broken(self) -> tuple[str, ...]:
        """``fn``, ``fp``, both or none: the budgets found broken so far. Quick, unlike `verdict`."""
        return tuple(name for name, kind in self._kinds.items() if kind.broken)

    @property
    def alarm(self) -> AuditState | None:
        """DANGER or BROKEN if a budget is; None otherwise. Quick, unlike `verdict`."""
        if self.broken:
            return AuditState.BROKEN
        return AuditState.DANGER if any(kind.in_danger for kind in self._kinds.values()) else None

    def verdict(self) -> AuditVerdict:
        """What is known by now."""
        states = {name: kind.state for name, kind in self._kinds.items()}
        order = [AuditState.HOLDS, AuditState.OPEN, AuditState.DANGER, AuditState.BROKEN]
        words = "; ".join(kind.words for kind in self._kinds.values())
        fn, fp = (kind.whole.rate for kind in self._kinds.values())
        return AuditVerdict(max(states.values(), key=order.index), fn, fp, self.broken, words)


class _WatchedBudget:
    """One budget, over all labels and over the latest ones."""

    def __init__(self, name: str, budget: float, alpha: float, least: float, recent: int | None) -> None:
        self._name, self._budget, self._alpha, self._least = name, budget, alpha, least
        self.whole = AuditBound(alpha, least)
        self._recent = AuditBound(alpha, least)
        self._length = recent or detection_samples(budget, 2 * budget, 1 - alpha)
        self._begun, self._checked = 1, 0
        self.broken = False

    def add(self, *, wrong: bool, probability: float, count: int) -> None:
        self.whole.add(wrong=wrong, probability=probability, count=count)
        self._recent.add(wrong=wrong, probability=probability, count=count)
        if probability < 1:
            self._checked += count
        if wrong:  # only a wrong label adds evidence
            self.broken = self.broken or self._evidence() >= 0
        if self._checked >= self._length:
            self._recent, self._checked = AuditBound(self._alpha, self._least), 0
            self._begun += 1

    def _evidence(self) -> float:
        """What the stronger of both says beyond what is enough, as a logarithm."""
        enough = math.log(4 / self._alpha)
        share = self._begun * (self._begun + 1)
        return max(
            self.whole.evidence_above(self._budget) - enough,
            self._recent.evidence_above(self._budget) - enough - math.log(share),
        )

    @property
    def in_danger(self) -> bool:
        """Whether the evidence is half the way to a broken budget, as a logarithm."""
        return self._evidence() >= -math.log(4 / self._alpha) / 2

    @property
    def state(self) -> AuditState:
        if self.broken:
            return AuditState.BROKEN
        if self.in_danger:
            return AuditState.DANGER
        return AuditState.HOLDS if self.whole.rate.high <= self._budget else AuditState.OPEN

    @property
    def words(self) -> str:
        rate = self.whole.rate
        value = "nothing checked yet" if rate.value is None else f"{rate.value:.2%}"
        return (
            f"{self._name}: {value} ({rate.low:.2%} to {rate.high:.2%}, {rate.wrong} wrong of {rate.checked} "
            f"checked), budget {self._budget:.2%}: {self.state.value}"
        )


def detection_samples(budget: float, rate: float, confidence: float) -> int:
    """About how many checked labels of a kind it takes to find that a budget is broken.

    Args:
        budget: the share that is allowed, 0 to 1.
        rate: the true share, above it.
        confidence: of the alarm.

    Returns:
        That of equally likely labels, on average, with a half added for chance.
    """
    stakes = np.array(_STAKES_ABOVE)
    losses = 1 - stakes * budget / (1 - budget)
    stakes, losses = stakes[losses > 0], losses[losses > 0]
    growth = float((rate * np.log1p(stakes) + (1 - rate) * np.log(losses)).max()) if len(stakes) else 0.0
    if growth <= 0:
        raise UsageError(f"a share of {rate:g} is not found out to be above {budget:g}")
    return math.ceil(1.5 * (math.log(4 / (1 - confidence)) + math.log(len(_STAKES_ABOVE))) / growth)
