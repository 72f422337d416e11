"""Which figure of a trial an objective is about, and which way is better; it weighs no constraints."""

from __future__ import annotations

from dataclasses import dataclass

from cpuserve.errors import UsageError
from cpuserve.tune.trial import Figures

__all__ = ["METRICS", "ObjectiveMetric"]


@dataclass(frozen=True)
class ObjectiveMetric:
    """A figure.

    Attributes:
        field: its name in `Figures`.
        title: for people, with the unit.
        more_is_better: whether it should grow.
    """

    field: str
    title: str
    more_is_better: bool

    def of(self, figures: Figures) -> float:
        """Its value in these figures."""
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
