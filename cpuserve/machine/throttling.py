"""Compares the throttling counters of two moments; it does not wait between them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cpuserve.machine.budget import Budget, Throttling

__all__ = ["Change", "Sample"]


@dataclass(frozen=True)
class Change:
    """What the counters of one group did between two moments.

    Attributes:
        seconds: between the two.
        nr_periods: periods in which the group wanted to run.
        nr_throttled: those in which it was stopped.
        throttled_usec: time stopped, in microseconds, added up over its CPUs.
        source: the file that counts.
    """

    seconds: float
    nr_periods: int
    nr_throttled: int
    throttled_usec: int
    source: str

    @property
    def share(self) -> float:
        """The part of the periods, 0 to 1, in which the group was stopped."""
        return self.nr_throttled / self.nr_periods if self.nr_periods else 0.0


@dataclass(frozen=True)
class Sample:
    """The counters of a process's own and ancestor groups at one moment.

    Attributes:
        at: when, in seconds since the epoch.
        groups: the file that counts, to its counters.
    """

    at: float
    groups: Mapping[str, Throttling]

    @classmethod
    def take(cls, budget: Budget) -> Sample:
        """Read the counters now."""
        return cls(time.time(), {str(count.source): count for count in budget.counters()})

    def since(self, earlier: Sample) -> Change | None:
        """What happened after ``earlier``, in the group that was stopped longest; None where none counts."""
        changes = [
            Change(
                self.at - earlier.at,
                now.nr_periods - before.nr_periods,
                now.nr_throttled - before.nr_throttled,
                now.throttled_usec - before.throttled_usec,
                source,
            )
            for source, now in self.groups.items()
            if (before := earlier.groups.get(source)) is not None
        ]
        return max(changes, key=lambda change: (change.throttled_usec, change.nr_periods), default=None)

    def to_json(self) -> dict[str, Any]:
        """Fit for JSON; `from_json` reads it."""
        groups = [asdict(count) | {"source": source} for source, count in self.groups.items()]
        return {"at": self.at, "groups": groups}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Sample:
        """What `to_json` wrote."""
        counts = [Throttling(**{**group, "source": Path(group["source"])}) for group in content["groups"]]
        return cls(content["at"], {str(count.source): count for count in counts})
