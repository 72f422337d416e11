"""Estimates what each setting did to a figure, and within which noise, from the trials of a search.

Two methods, in this order:

* **pairs**: trials that differ in one knob only, one factor at a time. The effect is the median of the pairs'
  ratios. Its noise is the larger of two: the windows' own spread (the halves of both trials' ranges, added
  as independent errors are, by the root of the sum of squares: JCGM 100:2008, 5.1.2) and the largest
  difference between two measurements of the same settings, which drift of the machine brings about.
* **regression**: where no pair is there, least squares over all trials on the logarithm of the figure, one
  coefficient for each value of each knob (main effects, no interactions: Box, Hunter & Hunter, "Statistics
  for Experimenters", 2005, chapters 5 and 9). Its noise is the half width of the 95 % interval by Student's
  t. A value whose coefficient the trials do not determine is "not told apart": it was only tried together
  with others.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cpuserve.tune.objective import ObjectiveMetric
from cpuserve.tune.trial import Figures, Knob, Point, Trial

__all__ = ["DEFAULT", "Effect", "KnobEffects", "effects", "repeat_noise"]

DEFAULT = "default"
"""Stands for the value of a knob that a point leaves alone."""

Kind = Literal["helps", "harmful", "no effect", "depends", "failed", "not told apart", "not tried"]


@dataclass(frozen=True)
class Effect:
    """What one value of a knob did to the figure, compared with another value.

    Attributes:
        value: the value.
        against: the value it is compared with.
        kind: the verdict as a keyword.
        change: relative change of the figure: 0.08 is 8 % more; NaN without a comparison.
        noise: relative noise; smaller changes mean nothing.
        method: ``pairs``, ``regression`` or empty.
        pairs: how many pairs were compared.
        low: the smallest change of a pair.
        high: the largest change of a pair.
        why: the reason of a failure.
    """

    value: Knob
    against: Knob
    kind: Kind
    change: float = math.nan
    noise: float = math.nan
    method: Literal["pairs", "regression", ""] = ""
    pairs: int = 0
    low: float = math.nan
    high: float = math.nan
    why: str = ""

    @property
    def words(self) -> str:
        """The verdict for people."""
        if self.kind in {"helps", "harmful"}:
            return f"{self.kind} {100 * self.change:+.1f} %"
        if self.kind == "no effect":
            return f"no effect (within noise {100 * self.noise:.1f} %)"
        if self.kind == "depends":
            return f"depends on the other settings ({100 * self.low:+.1f} to {100 * self.high:+.1f} %)"
        return f"{self.kind}: {self.why}" if self.why else self.kind


@dataclass(frozen=True)
class KnobEffects:
    """What all values of a knob did.

    Attributes:
        knob: its name.
        values: the effect of each value except the reference.
        why: the reason why it was not tried.
        known: what is known without a trial; may be empty.
    """

    knob: str
    values: tuple[Effect, ...] = ()
    why: str = ""
    known: str = ""

    @property
    def strongest(self) -> Effect | None:
        """The strongest effect: the most helpful, else one that depends, else the most harmful, else any."""
        order: tuple[Kind, ...] = ("helps", "depends", "harmful", "no effect", "not told apart", "failed")
        found = [effect for kind in order for effect in self.values if effect.kind == kind]
        same = [effect for effect in found if effect.kind == found[0].kind]
        sized = [effect for effect in same if not math.isnan(effect.change)]
        surest = max(sized, key=lambda one: (one.method == "pairs", abs(one.change)), default=None)
        return surest or (found[0] if found else None)

    @property
    def words(self) -> str:
        """The verdict for people."""
        if self.strongest is None and self.known:
            return self.known
        if self.strongest is None:
            return f"not tried ({self.why.rstrip('.')})" if self.why else "not tried"
        if self.strongest.kind == "no effect":
            noise = max(effect.noise for effect in self.values if effect.kind == "no effect")
            return f"no effect (within noise {100 * noise:.1f} %)"
        return self.strongest.words


def effects(
    trials: Sequence[Trial], metric: ObjectiveMetric, not_tried: Mapping[str, str]
) -> list[KnobEffects]:
    """The effects of all knobs, largest first, with untried knobs at the end.

    Args:
        trials: all trials; a value that never worked counts as failed.
        metric: the figure.
        not_tried: the reasons of the knobs that no trial set.
    """
    names = sorted({name for trial in trials for name, _ in trial.point.knobs})
    measured = _measured(trials)
    repeats = repeat_noise(trials, metric)
    fitted = _regression(measured, names, metric)
    found = [_knob(name, trials, measured, metric, repeats, fitted) for name in names]
    tried = [one for one in found if one.values]
    alone = {one.knob: one.why for one in found if not one.values}
    tried.sort(key=lambda one: -_size(one))
    return tried + [KnobEffects(name, why=why) for name, why in ({**alone, **not_tried}).items()]


def repeat_noise(trials: Sequence[Trial], metric: ObjectiveMetric) -> float:
    """The largest relative difference between measurements of the same settings; 0 without repeats."""
    by_point: dict[Point, list[float]] = {}
    for trial, figures in _measured(trials):
        by_point.setdefault(trial.point, []).append(metric.of(figures))
    return max((max(values) / min(values) - 1 for values in by_point.values()), default=0.0)


def _measured(trials: Iterable[Trial]) -> list[tuple[Trial, Figures]]:
    return [(trial, trial.figures) for trial in trials if trial.figures is not None]


def _size(one: KnobEffects) -> float:
    strongest = one.strongest
    if strongest is None or math.isnan(strongest.change):
        return -1.0
    return abs(strongest.change) if strongest.kind != "no effect" else 0.0


def _knob(
    name: str,
    trials: Sequence[Trial],
    measured: Sequence[tuple[Trial, Figures]],
    metric: ObjectiveMetric,
    repeats: float,
    fitted: Mapping[tuple[str, Knob], tuple[float, float]],
) -> KnobEffects:
    values = list(dict.fromkeys(trial.point.get(name, DEFAULT) for trial in trials))
    works = [value for value in values if any(t.point.get(name, DEFAULT) == value for t, _ in measured)]
    if not works:
        return KnobEffects(name, why="every trial with it failed")
    if len(values) == 1:
        return KnobEffects(name, why="only one value was tried")
    reference = _reference(name, measured)
    found = []
    for value in sorted((v for v in values if v != reference), key=_in_order):
        if value not in works:
            why = next(t.error for t in trials if t.point.get(name, DEFAULT) == value)
            found.append(Effect(value, reference, "failed", why=why))
            continue
        pairs = _pairs(name, value, reference, measured)
        if pairs:
            found.append(_paired(value, reference, pairs, metric, repeats))
        elif (name, value) in fitted:
            logarithm, noise = fitted[name, value]
            change, band = math.expm1(logarithm), max(math.expm1(noise), repeats)
            kind = _kind(change, band, metric)
            found.append(Effect(value, reference, kind, change, band, "regression"))
        else:
            found.append(Effect(value, reference, "not told apart"))
    return KnobEffects(name, tuple(found))


def _in_order(value: Knob) -> tuple[bool, float, str]:
    number = isinstance(value, (int, float))
    return (not number, float(value) if number else 0.0, str(value))


def _reference(name: str, measured: Sequence[tuple[Trial, Figures]]) -> Knob:
    """The default where it has pairs, else the value with most of them, else the one with most trials."""
    by_rest: dict[Point, set[Knob]] = {}
    values: Counter[Knob] = Counter()
    for trial, _ in measured:
        value = trial.point.get(name, DEFAULT)
        by_rest.setdefault(_without(trial.point, name), set()).add(value)
        values[value] += 1
    paired = Counter(value for beside in by_rest.values() if len(beside) > 1 for value in beside)
    if DEFAULT in (paired or values):
        return DEFAULT
    return (paired or values).most_common(1)[0][0]


def _without(point: Point, name: str) -> Point:
    return Point(tuple(knob for knob in point.knobs if knob[0] != name))


def _pairs(
    name: str, value: Knob, against: Knob, measured: Sequence[tuple[Trial, Figures]]
) -> list[tuple[Figures, Figures]]:
    """Figures with the value and with the other one, everything else alike; repeats pair in order."""
    sides: tuple[dict[Point, list[Figures]], dict[Point, list[Figures]]] = ({}, {})
    for trial, figures in measured:
        own = trial.point.get(name, DEFAULT)
        for side, wanted in zip(sides, (value, against), strict=True):
            if own == wanted:
                side.setdefault(_without(trial.point, name), []).append(figures)
    # a point that was measured more often than its partner counts once, by the median of its figures
    return [(_middle(ours), _middle(sides[1][rest])) for rest, ours in sides[0].items() if rest in sides[1]]


def _middle(figures: Sequence[Figures]) -> Figures:
    ordered = sorted(figures, key=lambda one: one.images_per_s)
    return ordered[len(ordered) // 2]


def _paired(
    value: Knob,
    reference: Knob,
    pairs: Sequence[tuple[Figures, Figures]],
    metric: ObjectiveMetric,
    repeats: float,
) -> Effect:
    changes = [metric.of(ours) / metric.of(theirs) - 1 for ours, theirs in pairs]
    windows = statistics.median(math.hypot(ours.noise, theirs.noise) / 2 for ours, theirs in pairs)
    noise = max(windows, repeats)
    change = statistics.median(changes)
    kind = _kind(change, noise, metric)
    if min(changes) < -noise and max(changes) > noise:
        kind = "depends"
    return Effect(value, reference, kind, change, noise, "pairs", len(pairs), min(changes), max(changes))


def _kind(change: float, noise: float, metric: ObjectiveMetric) -> Kind:
    if abs(change) <= noise:
        return "no effect"
    return "helps" if (change > 0) == metric.more_is_better else "harmful"


def _regression(
    measured: Sequence[tuple[Trial, Figures]], names: Sequence[str], metric: ObjectiveMetric
) -> dict[tuple[str, Knob], tuple[float, float]]:
    """Effect and its noise, in logarithms, for each value that the trials determine."""
    columns = [
        (name, value)
        for name in names
        for value in dict.fromkeys(trial.point.get(name, DEFAULT) for trial, _ in measured)
        if value != _reference(name, measured)
    ]
    design = np.array(
        [[1.0, *(float(t.point.get(name, DEFAULT) == value) for name, value in columns)] for t, _ in measured]
    )
    if not columns:
        return {}
    left, sizes, right = np.linalg.svd(design)
    sizes = np.pad(sizes, (0, len(right) - len(sizes)))
    kept = sizes > 1e-9 * sizes[0]
    freedom = len(measured) - int(kept.sum())
    if freedom < 1:
        return {}
    inverse = right[kept].T / sizes[kept]
    seen = np.log([metric.of(figures) for _, figures in measured])
    solved = inverse @ (left[:, : int(kept.sum())].T @ seen)
    error = math.sqrt(float(((seen - design @ solved) ** 2).sum()) / freedom)
    free = right[~kept]  # directions in which the coefficients may move without any trial noticing
    found = {}
    for place, column in enumerate(columns, start=1):
        if not np.any(np.abs(free[:, place]) > 1e-6):
            width = _student(freedom) * error * float(np.linalg.norm(inverse[place]))
            found[column] = (float(solved[place]), width)
    return found


_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)


def _student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t: tabled up to 10, then Abramowitz & Stegun 26.7.5, first term."""
    return _T[freedom - 1] if freedom <= len(_T) else 1.96 + 2.37 / freedom
