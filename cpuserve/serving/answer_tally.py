"""Counts how far the answers of two forms of a model agree, class by class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

__all__ = ["Tally"]

_SUPPORT = 5.0  # of a class: with less, its own agreement says little
_LOST = 0.5
_SMALL_SHARE = 0.01  # of a picture


@dataclass
class Tally:
    """What agrees between two answers, and of how much; tallies of several pictures add up.

    Attributes:
        agreed: by class, the weight of what agrees.
        whole: by class, the weight of what either of the two answers.
        support: by class, how often the first of the two answers it; for masks, hundredths of a picture.
        answers: number of the first's answers.
        missed: number of the first's answers that the second lacks.
        invented: number of the second's answers that the first lacks.
    """

    agreed: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    whole: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    support: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    answers: int = 0
    missed: int = 0
    invented: int = 0

    def count(self, class_id: int, agreed: float, whole: float, support: float = 0.0) -> None:
        """Adds weights to a class."""
        self.agreed[class_id] += agreed
        self.whole[class_id] += whole
        self.support[class_id] += support

    @classmethod
    def total(cls, tallies: Iterable[Tally]) -> Tally:
        """The sum of several."""
        made = cls()
        for one in tallies:
            for class_id, whole in one.whole.items():
                made.count(class_id, one.agreed[class_id], whole, one.support[class_id])
            made.answers += one.answers
            made.missed += one.missed
            made.invented += one.invented
        return made

    @property
    def pooled(self) -> float:
        """The share that agrees, 0 to 1; 1 where neither answers anything."""
        whole = sum(self.whole.values())
        return sum(self.agreed.values()) / whole if whole > 0 else 1.0

    @property
    def by_class(self) -> float:
        """The mean over the classes, 0 to 1; weights are shares of a picture.

        A class with less than a hundredth of a picture counts less in proportion: some stray pixels are no
        class that was lost.
        """
        weights = {key: min(1.0, whole / _SMALL_SHARE) for key, whole in self.whole.items() if whole > 0}
        if not weights:
            return 1.0
        ratios = (weight * self.agreed[key] / self.whole[key] for key, weight in weights.items())
        return sum(ratios) / sum(weights.values())

    def lost_classes(self) -> Iterator[tuple[int, float]]:
        """Yields the classes that the first answers often and the second mostly does not, and their share."""
        for key, support in self.support.items():
            whole = self.whole[key]
            if support >= _SUPPORT and whole > 0 and self.agreed[key] / whole < _LOST:
                yield key, self.agreed[key] / whole
