"""Draws what a cascade decides and promises: shares, bounds beside budgets, histograms of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpuserve.reports.drawing import Drawing
from cpuserve.video.audit_bound import AuditedRate

__all__ = [
    "STAGES",
    "BoundBar",
    "ObservedBar",
    "ScoreGroup",
    "bound_bar",
    "observed_bar",
    "score_histogram",
    "share_bars",
]

STAGES = (
    ("s7", "skipped"),
    ("s9", "packets"),
    ("s2", "difference"),
    ("s0", "specialised"),
    ("s1", "reference"),
)
"""The colour of each of those who decide, in the order of `DecidedBy`."""

_WIDTH = 460.0  # small, so that words can be read on a telephone
_STEP, _BAR = 44.0, 16.0
_BINS = 30
_NOTHING = np.zeros(1, np.float32)


@dataclass(frozen=True)
class BoundBar:
    """A share that was observed, its bound, and what is allowed.

    Attributes:
        label: written above.
        observed: share, 0 to 1.
        bound: share, 0 to 1.
        budget: share, 0 to 1.
        words: shown while the pointer is over it, and written below.
    """

    label: str
    observed: float
    bound: float
    budget: float
    words: str


@dataclass(frozen=True)
class ObservedBar:
    """A share that an audit estimates, what is allowed, and what was promised.

    Attributes:
        label: written above.
        rate: the estimate with its interval.
        budget: share, 0 to 1.
        promised: the bound that was promised, 0 to 1; None without a promise.
    """

    label: str
    rate: AuditedRate
    budget: float
    promised: float | None


@dataclass(frozen=True)
class ScoreGroup:
    """Scores drawn in one colour.

    Attributes:
        colour: class of the style sheet.
        scores: of its frames.
    """

    colour: str
    scores: NDArray[np.float32]


def share_bars(
    rows: Sequence[tuple[str, Sequence[float]]], names: Sequence[str], colours: Sequence[str]
) -> Drawing:
    """Draw a bar a row that is divided by shares.

    Args:
        rows: words and shares that add up to 1, from the top.
        names: of the shares.
        colours: classes of the shares.
    """
    drawing = Drawing(_WIDTH, _STEP * len(rows) + 4, f"shares of {', '.join(names)}")
    for place, (words, shares) in enumerate(rows):
        top, left = _STEP * place + 14, 0.0
        drawing.text(0, top, words)
        for share, name, colour in zip(shares, names, colours, strict=True):
            width = _WIDTH * share
            if width > 0:
                tip = f"{name}: {share:.1%}"
                drawing.add("rect", f"series {colour}", tip=tip, x=left, y=top + 6, width=width, height=_BAR)
            if width > 44:
                drawing.text(left + width / 2, top + 18, f"{share:.0%}", "on")
            left += width
    return drawing


def bound_bar(row: BoundBar) -> Drawing:
    """Draw an observed share inside its bound, with a line at the budget."""
    drawing = Drawing(_WIDTH, 66, f"observed share, bound and budget: {row.label}")
    most = 1.35 * max(row.bound, row.budget)

    def at(share: float) -> float:
        return _WIDTH * share / most

    drawing.text(0, 14, f"{row.label}: {row.observed:.2%}, at most {row.bound:.2%}", "strong")
    kind = "good" if row.bound <= row.budget else "bad"
    drawing.add("rect", f"{kind} pale", tip=row.words, x=0, y=22, width=at(row.bound), height=_BAR)
    if row.observed:
        drawing.add("rect", kind, tip=row.words, x=0, y=22, width=at(row.observed), height=_BAR)
    x = at(row.budget)
    drawing.add("line", "axis", x1=x, y1=18, x2=x, y2=42)
    drawing.text(x + 5, 35, f"budget {row.budget:.2%}", "label")
    drawing.text(0, 58, row.words, "soft")
    return drawing


def observed_bar(row: ObservedBar) -> Drawing:
    """Draw the interval of an audited share with its estimate, the budget and the promise."""
    rate, budget = row.rate, row.budget
    drawing = Drawing(_WIDTH, 66, f"observed share, its interval, promise and budget: {row.label}")
    most = 1.35 * max(rate.high, budget, row.promised or 0.0)

    def at(share: float) -> float:
        return _WIDTH * share / most

    value = "nothing checked yet" if rate.value is None else f"{rate.value:.2%} of frames"
    drawing.text(0, 14, f"{row.label}: {value}, {rate.low:.2%} to {rate.high:.2%}", "strong")
    kind = "bad" if rate.low > budget else "good" if rate.high <= budget else "series s7"
    words = f"{rate.wrong} wrong of {rate.checked} checked"
    left = at(rate.low)
    drawing.add("rect", f"{kind} pale", tip=words, x=left, y=22, width=at(rate.high) - left, height=_BAR)
    if rate.value is not None:
        x = min(at(rate.value), _WIDTH - 3)
        drawing.add("rect", kind, tip=words, x=max(0.0, x - 1.5), y=20, width=3, height=_BAR + 4)
    x = at(budget)
    drawing.add("line", "axis", x1=x, y1=18, x2=x, y2=42)
    drawing.text(x + 5, 35, f"budget {budget:.2%}", "label")
    if row.promised is not None:
        x = at(row.promised)
        drawing.add("line", "level", x1=x, y1=18, x2=x, y2=42)
        words += f"; promised (dashed): at most {row.promised:.2%} of windows"
    drawing.text(0, 58, words, "soft")
    return drawing


def score_histogram(groups: Sequence[ScoreGroup], levels: Sequence[float], title: str) -> Drawing:
    """Draw how many scores of each group lie where, the groups over each other, counts logarithmic.

    Args:
        groups: at least one with a score.
        levels: thresholds, drawn as dashed lines.
        title: what the scores are.
    """
    every = np.concatenate([group.scores for group in groups if len(group.scores)] or [_NOTHING])
    low, high = float(min(every.min(), *levels)), float(max(every.max(), *levels))
    high = high if high > low else low + 1
    counts = [np.histogram(group.scores, bins=_BINS, range=(low, high))[0] for group in groups]
    most = float(np.log1p(max(1, *(int(count.max()) for count in counts))))
    height, base, left, right = 220.0, 190.0, 54.0, _WIDTH - 6
    drawing = Drawing(_WIDTH, height, f"histogram of {title}")

    def at_x(score: float) -> float:
        return left + (right - left) * (score - low) / (high - low)

    def tall(count: float) -> float:
        return (base - 12) * float(np.log1p(count)) / most

    ticks = [10**power for power in range(9) if np.log1p(10**power) <= most]
    for tick in ticks:
        y = base - tall(tick)
        drawing.add("line", "grid", x1=left, y1=y, x2=right, y2=y)
        drawing.text(left - 6, y + 4, f"{tick:,}", anchor="end")
    wide = (right - left) / _BINS
    for group, count in zip(groups, counts, strict=True):
        for place, number in enumerate(count):
            if number:
                x, tip = left + wide * place, f"{number} frames"
                rect = f"series pale {group.colour}"
                drawing.add(
                    "rect", rect, tip=tip, x=x, y=base - tall(number), width=wide - 1, height=tall(number)
                )
    drawing.add("line", "axis", x1=left, y1=base, x2=right, y2=base)
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        score = low + share * (high - low)
        drawing.text(at_x(score), base + 18, f"{score:.3g}", anchor=anchor)
    for level in sorted(set(levels)):
        drawing.add("line", "level", x1=at_x(level), y1=4, x2=at_x(level), y2=base)
    return drawing
