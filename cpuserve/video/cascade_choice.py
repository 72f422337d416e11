"""A cascade's parts and thresholds, and the label that it gives to each frame of a score table."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from cpuserve.video.window_looks import replay_looks
from cpuserve.video.windows import WINDOW_FRAMES

if TYPE_CHECKING:
    from cpuserve.video.score_table import ScoreTable

__all__ = [
    "REFERENCE_ONLY",
    "Choice",
    "CopyTree",
    "DecidedBy",
    "PacketRule",
    "Replay",
    "cost_of_shares",
    "cost_per_frame",
    "replay",
]


class DecidedBy(enum.IntEnum):
    """The stage that gives a frame its label."""

    SKIPPED = 0
    PACKETS = 1
    DIFFERENCE = 2
    SPECIALISED = 3
    REFERENCE = 4


@dataclass(frozen=True)
class PacketRule:
    """Decides by the sizes of packets, before a frame is compared with another.

    Attributes:
        low: frames with a smaller probability are negative.
        high: frames with a larger one are positive.
    """

    low: float
    high: float


@dataclass(frozen=True)
class Choice:
    """Parts and thresholds of a cascade; each part may be left out.

    Attributes:
        every: of so many frames one is looked at, see `ScoreTable.looked_at`. The others are skipped.
        which: the frames that are decoded: ``all``, ``nonref`` (without those that no other frame needs) or
            ``nonkey`` (keyframes alone).
        packets: rule on the sizes of packets, or None.
        detector: name of the difference detector, or None.
        delta: a frame that differs by less than this has not changed.
        cnn: name of the specialised CNN, or None.
        c_low: frames that the CNN gives less than this are negative.
        c_high: frames that it gives more than this are positive. All others go to the reference.
        looks: places in each window of 30 frames that are looked at, in place of ``every``; then there are no
            packets and no detector (`cpuserve.video.window_looks`).
        most_asked: looks at a window that the reference is asked about.
        c_half: a window with half of its looks below this is negative; 0: that decides nothing.
    """

    every: int = 1
    which: Literal["all", "nonref", "nonkey"] = "all"
    packets: PacketRule | None = None
    detector: str | None = None
    delta: float = 0.0
    cnn: str | None = None
    c_low: float = 0.0
    c_high: float = 1.0
    looks: tuple[int, ...] = ()
    most_asked: int = WINDOW_FRAMES
    c_half: float = 0.0

    @property
    def decides_nothing(self) -> bool:
        """Whether the reference is asked about every frame."""
        sampled = self.every > 1 or self.which != "all" or self.looks
        return not (sampled or self.packets or self.detector or self.cnn)


REFERENCE_ONLY = Choice()
"""The reference on every frame."""


@dataclass(frozen=True)
class Replay:
    """What a cascade says of each frame.

    Attributes:
        labels: its label, [n].
        stages: `DecidedBy`, uint8 [n].
        roots: the row whose own decision the label is, [n]; its own row unless it is a copy.
    """

    labels: NDArray[np.bool_]
    stages: NDArray[np.uint8]
    roots: NDArray[np.int64]

    def share(self, stage: DecidedBy) -> float:
        """The share of frames that a stage decides, 0 to 1."""
        return float(np.count_nonzero(self.stages == stage)) / max(1, len(self.stages))


@dataclass(frozen=True)
class CopyTree:
    """Which frames copy a label, and from which; it does not depend on the CNN.

    Attributes:
        stages: `DecidedBy` where packets, differences or skipping decide, and REFERENCE elsewhere, [n].
        negative: frames that these stages find negative by themselves, [n].
        positive: frames that they find positive by themselves, [n].
        roots: the row that decides each frame, [n].
    """

    stages: NDArray[np.uint8]
    negative: NDArray[np.bool_]
    positive: NDArray[np.bool_]
    roots: NDArray[np.int64]

    @classmethod
    def of(cls, table: ScoreTable, choice: Choice) -> CopyTree:
        """The copies that the skipping, the packet rule and the difference detector of a choice make.

        Raises:
            KeyError: the table has no scores of a part.
        """
        rows = np.arange(len(table))
        looked = table.looked_at(choice.every, choice.which)
        stages = np.where(looked, DecidedBy.REFERENCE, DecidedBy.SKIPPED).astype(np.uint8)
        negative, positive = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
        # the last one looked at; rows before the first of all stand for themselves
        sources = np.maximum.accumulate(np.where(looked, rows, -1))
        sources = np.where(sources < 0, rows, sources)
        undecided = looked.copy()
        if choice.packets is not None:
            if table.packets is None:
                raise KeyError("packets")
            negative = undecided & (table.packets < choice.packets.low)
            positive = undecided & (table.packets > choice.packets.high)
            stages[negative | positive] = DecidedBy.PACKETS
            undecided &= ~(negative | positive)
        if choice.detector is not None:
            scores = table.difference(choice.detector, choice.every, choice.which)
            if scores is None:
                raise KeyError(f"{choice.detector} for one of {choice.every} frames of {choice.which}")
            same = undecided & (scores < choice.delta)  # NaN and infinity are never the same
            if choice.detector.endswith(":reference"):
                negative |= same
            else:
                anchors = table.anchors(choice.detector, choice.every, choice.which)
                same &= anchors >= 0
                sources = np.where(same, anchors, sources)
            stages[same] = DecidedBy.DIFFERENCE
        return cls(stages, negative, positive, _ends(sources))

    def replay(self, table: ScoreTable, choice: Choice) -> Replay:
        """Let the CNN of the choice, and then the reference, decide what is left."""
        stages, labels = self.stages, np.asarray(table.label, bool)
        left = stages == DecidedBy.REFERENCE
        if choice.cnn is not None:
            scores = table.specialised[choice.cnn]
            below, above = left & (scores < choice.c_low), left & (scores > choice.c_high)
            stages = np.where(below | above, np.uint8(DecidedBy.SPECIALISED), stages)
            labels = (labels & ~below) | above
        labels = (labels & ~self.negative) | self.positive
        return Replay(labels[self.roots], stages, self.roots)


def replay(table: ScoreTable, choice: Choice) -> Replay:
    """Decide every frame as the running cascade does.

    A skipped frame copies the label of the last frame that was looked at. A frame that does not differ from
    its anchor copies the anchor's label, whichever stage that comes from; one that does not differ from the
    picture without the object is negative. A frame never copies from before its segment. With `Choice.looks`
    it is as `cpuserve.video.window_looks.replay_looks` says.

    Args:
        table: the scores.
        choice: parts and thresholds.

    Raises:
        KeyError: the table has no scores of a part of the choice.
    """
    if choice.looks:
        scores = None if choice.cnn is None else table.specialised[choice.cnn]
        thresholds = choice.c_low, choice.c_half, choice.c_high
        found = replay_looks(table, choice.looks, scores, thresholds, choice.most_asked)
        stages = np.full(len(table), DecidedBy.SKIPPED, np.uint8)
        stages[found.own], stages[found.asked] = DecidedBy.SPECIALISED, DecidedBy.REFERENCE
        return Replay(found.labels, stages, found.roots)
    return CopyTree.of(table, choice).replay(table, choice)


def cost_per_frame(table: ScoreTable, choice: Choice, stages: NDArray[np.uint8]) -> float:
    """Measured CPU seconds of a choice for each frame of the video, decoding included.

    Args:
        table: with the costs.
        choice: whose parts count.
        stages: who decides each frame, by `replay` of the choice.

    Raises:
        KeyError: the table has no cost of a part.
    """
    return cost_of_shares(table, choice, np.bincount(stages, minlength=len(DecidedBy)) / max(1, len(stages)))


def cost_of_shares(table: ScoreTable, choice: Choice, shares: Sequence[float] | NDArray[np.float64]) -> float:
    """As `cost_per_frame`, for the share of frames that each stage of `DecidedBy` decides."""
    costs = table.costs
    skipped, packets, _, specialised, reference = shares
    looked, asked = 1 - skipped - packets, specialised + reference
    if choice.looks:  # some need no label of their own
        looked = asked = len(choice.looks) / WINDOW_FRAMES
    total = costs[f"decode:{choice.which}"] + reference * costs["reference"]
    if choice.detector is not None or choice.cnn is not None:
        total += looked * costs["scale"]
    if choice.detector is not None:
        total += looked * costs[f"difference:{choice.detector}"]
    if choice.cnn is not None:
        total += asked * costs[f"specialised:{choice.cnn}"]
    if choice.packets is not None:
        total += costs["packets"]
    return float(total)


def _ends(sources: NDArray[np.int64]) -> NDArray[np.int64]:
    """The row at the end of each chain of copies, in about log2(length of a chain) passes."""
    while True:
        further = sources[sources]
        if np.array_equal(further, sources):
            return sources
        sources = further
