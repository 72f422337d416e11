"""Objectives, constraints and ties: decides which trial is best."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cpuserve.errors import UsageError
from cpuserve.tune.trial import Figures, Point, Trial

__all__ = ["FIGURES", "METRICS", "Constraint", "Objective", "ObjectiveMetric", "Standing"]


@dataclass(frozen=True)
class ObjectiveMetric:
    """The figure that an objective is about.

    Attributes:
        field: the attribute of `Figures`.
        title: for people, with the unit.
        more_is_better: whether a larger value is better.
    """

    field: str
    title: str
    more_is_better: bool

    def of(self, figures: Figures) -> float:
        """Its value."""
        return float(getattr(figures, self.field))

    def better(self, one: Figures, other: Figures) -> bool:
        """Whether the first is the better one."""
        return self.of(one) != self.of(other) and (self.of(one) > self.of(other)) == self.more_is_better

    @classmethod
    def for_objective(cls, objective: str) -> ObjectiveMetric:
        """The figure of an objective.

        Raises:
            UsageError: there is no such objective.
        """
        try:
            return METRICS[objective]
        except KeyError:
            raise UsageError(f"objective {objective[:40]!r}: there are {', '.join(METRICS)}") from None


METRICS = {
    "throughput": ObjectiveMetric("images_per_s", "images/s", more_is_better=True),
    "latency": ObjectiveMetric("p99_ms", "p99 ms", more_is_better=False),
    "cpu_per_request": ObjectiveMetric("cpu_ms", "CPU ms an image", more_is_better=False),
}


_MIB_IN_MB = (1 << 20) / 1e6

FIGURES: Mapping[str, tuple[str, float]] = {
    **{name: (name, 1.0) for name in ("images_per_s", "p50_ms", "p95_ms", "p99_ms", "cpu_ms", "rss_mib")},
    "rss_mb": ("rss_mib", _MIB_IN_MB),
}
"""What a constraint may name: the field of `Figures` and what it is multiplied by."""

_CONSTRAINT = re.compile(r"\s*(\w+)\s*(<=|>=)\s*([0-9]*\.?[0-9]+)\s*")


@dataclass(frozen=True)
class Constraint:
    """A limit for one figure.

    Attributes:
        figure: its name, one of `FIGURES`.
        most: whether the bound is an upper limit; else it is a lower one.
        bound: the value, in the figure's unit.
    """

    figure: str
    most: bool
    bound: float

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Parse a constraint such as ``p99_ms<=50``.

        Raises:
            UsageError: it is not a figure, ``<=`` or ``>=`` and a number above 0.
        """
        found = _CONSTRAINT.fullmatch(text)
        if not found or found[1] not in FIGURES or not float(found[3]):
            raise UsageError(
                f"--constraint {text[:60]!r}: write FIGURE<=NUMBER or FIGURE>=NUMBER, above 0, as in "
                f"p99_ms<=50; the figures are {', '.join(FIGURES)}"
            )
        return cls(found[1], found[2] == "<=", float(found[3]))

    def __str__(self) -> str:
        return f"{self.figure}{'<=' if self.most else '>='}{self.bound:g}"

    def excess(self, figures: Figures) -> float:
        """How far the limit is exceeded, as a share of it; 0 when it is kept."""
        field, factor = FIGURES[self.figure]
        value = factor * float(getattr(figures, field))
        return max(0.0, (value - self.bound if self.most else self.bound - value) / self.bound)


@dataclass(frozen=True)
class Standing:
    """The combined result of all trials of one point.

    Attributes:
        point: the point.
        trial: the trial nearest to the mean, whose figures stand for all.
        score: mean score of the trials that worked; larger is better.
        noise: width of the range of the score, as a share of it: the largest of the windows' spread,
            the spread between its trials, and the spread between the trials of the defaults, which is drift;
            divided by the root of the number of its trials.
        excess: how far the constraints are exceeded, added up; 0 if all are kept.
    """

    point: Point
    trial: Trial
    score: float
    noise: float
    excess: float


@dataclass(frozen=True)
class Objective:
    """An objective with its constraints.

    Attributes:
        name: ``throughput``, ``latency`` or ``cpu_per_request``.
        constraints: bounds that must be kept.
    """

    name: str = "throughput"
    constraints: tuple[Constraint, ...] = ()

    @classmethod
    def parse(cls, name: str, constraints: Iterable[str] = ()) -> Objective:
        """Parse an objective and its constraints.

        Raises:
            UsageError: there is no such objective, or a constraint cannot be read.
        """
        ObjectiveMetric.for_objective(name)
        return cls(name, tuple(sorted((Constraint.parse(text) for text in constraints), key=str)))

    @property
    def metric(self) -> ObjectiveMetric:
        """The figure it is about."""
        return ObjectiveMetric.for_objective(self.name)

    def value(self, figures: Figures) -> float:
        """Its figure, in the figure's unit."""
        return self.metric.of(figures)

    def score(self, figures: Figures) -> float:
        """The figure, inverted if less is better, so that more is always better."""
        value = self.value(figures)
        if self.metric.more_is_better:
            return value
        return 1.0 / value if value > 0 else 0.0

    def excess(self, figures: Figures) -> float:
        """How far the constraints are exceeded, added up."""
        return sum(constraint.excess(figures) for constraint in self.constraints)

    def standings(self, trials: Iterable[Trial]) -> list[Standing]:
        """Rank the points that worked: those that keep the constraints first, then by score.

        If none keeps them, the one that exceeds them least is first.
        """
        by_point: dict[Point, list[tuple[float, Trial, Figures]]] = {}
        for trial in trials:
            if trial.figures is not None:
                entry = (self.score(trial.figures), trial, trial.figures)
                by_point.setdefault(trial.point, []).append(entry)
        drift = _spread([score for score, _, _ in by_point.get(Point(), [])])
        found = [self._standing(point, entries, drift) for point, entries in by_point.items()]
        return sorted(found, key=lambda one: (one.excess, -one.score))

    def best(self, trials: Sequence[Trial]) -> Standing | None:
        """The point to use: of those that tie with the best, the one nearest to the defaults.

        None where nothing worked.
        """
        ranked = self.standings(trials)
        if not ranked:
            return None
        tied = [one for one in ranked if one is ranked[0] or self.tie(one, ranked[0])]
        return min(tied, key=lambda one: (len(one.point.knobs), -one.score))

    def tie(self, one: Standing, other: Standing) -> bool:
        """Whether the difference is within the noise of both.

        The half widths of both are added, so that two that are called different do not even touch. Of two
        that break constraints, or of which one does, none is as good as the other.
        """
        if one.excess or other.excess:
            return False
        worse, better = sorted((one, other), key=lambda standing: standing.score)
        return better.score * (1 - better.noise / 2) <= worse.score * (1 + worse.noise / 2)

    def _standing(self, point: Point, entries: list[tuple[float, Trial, Figures]], drift: float) -> Standing:
        score = statistics.fmean(one for one, _, _ in entries)
        _, trial, figures = min(entries, key=lambda entry: abs(entry[0] - score))
        inside = statistics.median(entry[2].noise for entry in entries)
        noise = max(inside, drift, _spread([one for one, _, _ in entries]))
        return Standing(point, trial, score, noise / math.sqrt(len(entries)), self.excess(figures))


def _spread(scores: Sequence[float]) -> float:
    middle = statistics.median(scores) if scores else 0.0
    return (max(scores) - min(scores)) / middle if middle else 0.0
