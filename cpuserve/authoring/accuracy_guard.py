"""The INT8 guard: decides by answers whether a quantised model is as good as the float model.

A drop is bounded by what the pictures show: its interval is wide where they are few, and the report says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cpuserve.authoring.metrics import AccuracyMetric, CustomMetric
from cpuserve.serving.answer_agreement import AnswerAgreement
from cpuserve.serving.answer_tally import Tally

__all__ = ["Evidence", "Measured", "Verdict", "drop_interval", "judge", "why_not_validated"]

_Z = 1.96  # of a 95% interval
_GROUPS = 10


@dataclass(frozen=True)
class Measured:
    """What a metric says of a model.

    Attributes:
        kept: what the metric kept of each picture.
        value: the metric.
    """

    kept: Sequence[Any]
    value: float


@dataclass(frozen=True)
class Evidence:
    """What a comparison rests on.

    Attributes:
        compared_with: what counts as right.
        pictures: number of pictures.
        answers: number of answers on them that could agree or not: boxes, keypoints, classes, labels.
        missed: of the float model's answers, how many the other model lacks; None against labels.
        invented: how many the other model adds; None against labels.
        drop: by how much the metric fell.
        low: lower end of the drop's 95% interval; None where there is none.
        high: its upper end.
    """

    compared_with: str
    pictures: int
    answers: int
    missed: int | None
    invented: int | None
    drop: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Verdict:
    """Whether a quantised model may be published.

    Attributes:
        accepted: whether.
        reason: why not, or what its figures do not prove; may be empty.
        evidence: what that rests on.
    """

    accepted: bool
    reason: str
    evidence: Evidence


def why_not_validated(metric: AccuracyMetric, accuracy_float: float, max_drop: float) -> str:
    """Why no drop of a metric could show that a model is worse; empty where one could.

    Args:
        metric: after it has seen the float model.
        accuracy_float: of the float model.
        max_drop: the allowed drop.
    """
    reason = metric.why_not()
    if not reason and not isinstance(metric, CustomMetric) and not accuracy_float > max_drop:
        reason = (
            f"the float model itself reaches {metric.name} {accuracy_float:.4f}: a model that answers "
            f"nothing would lose no more than --max-drop {max_drop:g}"
        )
    return reason


def judge(
    metric: AccuracyMetric,
    before: Measured,
    after: Measured,
    max_drop: float,
    labels: Sequence[str],
) -> Verdict:
    """Judges a model by what a metric says of it.

    Args:
        metric: the metric.
        before: of the float model.
        after: of the other model.
        max_drop: by how much the metric may fall.
        labels: name by class.
    """
    drop = before.value - after.value
    low, high = drop_interval(metric, before.kept, after.kept)
    agreement = isinstance(metric, AnswerAgreement)
    total = Tally.total(after.kept) if agreement else Tally(answers=metric.answers)
    missed, invented = (total.missed, total.invented) if agreement else (None, None)
    evidence = Evidence(
        metric.compared_with, len(after.kept), total.answers, missed, invented, drop=drop, low=low, high=high
    )
    if not drop <= max_drop:  # a drop of NaN is none that is allowed
        return Verdict(False, f"--max-drop {max_drop:g} does not allow that", evidence)
    for class_id, share in total.lost_classes():
        name = labels[class_id] if 0 <= class_id < len(labels) else f"class {class_id}"
        return Verdict(False, f"of {name!r}, only {share:.0%} agrees, however good the rest is", evidence)
    if high is not None and high > max_drop:
        reason = (
            f"{len(after.kept)} pictures do not prove it: the drop may be up to {high:.2f} (95% interval)"
        )
        return Verdict(True, reason, evidence)
    return Verdict(True, "", evidence)


def drop_interval(
    metric: AccuracyMetric, before: Sequence[Any], after: Sequence[Any]
) -> tuple[float | None, float | None]:
    """The 95% interval of the drop of a metric, from -1 to 1; None where the metric has no bounds.

    The wider of two: the jackknife over groups of pictures, and Wilson's interval of a share, which does not
    shrink to nothing where all the pictures agree.

    Args:
        metric: the metric.
        before: kept of each picture, of the float model.
        after: kept of the same pictures, of the other model.
    """
    if isinstance(metric, CustomMetric):
        return None, None

    def drop(places: Sequence[int]) -> float:
        return metric.value([before[place] for place in places]) - metric.value(
            [after[place] for place in places]
        )

    count = len(after)
    whole = drop(range(count))
    if not math.isfinite(whole):
        return None, None
    spread = _Z * _jackknife(drop, count)
    low, high = _wilson(min(1.0, abs(whole)), count)
    if whole < 0:
        low, high = -high, -low
    low, high = min(low, whole - spread), max(high, whole + spread)
    return max(-1.0, round(low, 6)), min(1.0, round(high, 6))


def _jackknife(value: Callable[[Sequence[int]], float], count: int) -> float:
    """Standard error of a value, from leaving out one group of pictures at a time."""
    groups = min(count, _GROUPS)
    if groups < 2:
        return 0.0
    found = [value([place for place in range(count) if place % groups != group]) for group in range(groups)]
    mean = math.fsum(found) / groups
    return math.sqrt((groups - 1) / groups * math.fsum((one - mean) ** 2 for one in found))


def _wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's interval of a share among ``count``."""
    middle = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2)) / (1 + _Z**2 / count)
    return middle - half, middle + half
