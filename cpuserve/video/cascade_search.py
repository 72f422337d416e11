"""Searches the cheapest cascades that keep budgets on scores, with exact thresholds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cpuserve.video.cascade_choice import (
    Choice,
    CopyTree,
    DecidedBy,
    PacketRule,
    cost_of_shares,
    cost_per_frame,
    replay,
)
from cpuserve.video.exact_thresholds import ExactThresholds, single
from cpuserve.video.score_table import PARTS, ScoreTable
from cpuserve.video.window_looks import ASKED, LOOKS, WindowScores
from cpuserve.video.windows import LEAST_POSITIVE, WINDOW_FRAMES

if TYPE_CHECKING:
    from cpuserve.video.guarantee import Budgets

__all__ = ["CAUTIONS", "Candidate", "Caution", "WindowRows", "part_of", "search"]

_EVERY = (1, 2, 5, 10, 15, 30)
_WORTH = 0.97  # decoding less is tried where it costs less than this share of decoding all
_ERRORS_OF_DELTA = (0, 1, 2, 4, 8, 16, 32, 64)  # frames that a difference threshold labels wrong, at most
_TOLERATED = 0.1  # of a window that looks alone get wrong, wherever it begins: a label flickers for a frame
_MOST_WINDOWS = 4_000  # that candidates are tried on; fewer than so many begin at each frame


@dataclass(frozen=True)
class Caution:
    """How far thresholds stay away from what would just keep the budgets.

    Attributes:
        share: of each budget that may be used up.
        shrink: what is left of the range of scores that the CNN (and the detector) decides.
        words: for reports.
        most_skipped: frames that may be skipped in a row; a window allows two late labels. None for any
            number, and for packets that decide.
        fewest_looks: at each window, where a window is looked at as a whole.
        fewest_asked: of them the reference is asked about so many, if so many are open.
    """

    share: float
    shrink: float
    words: str
    most_skipped: int | None = None
    fewest_looks: int = 2
    fewest_asked: int = 1


CAUTIONS = (
    Caution(0.0, 0.1, "no error, a tenth of the thresholds, no frame skipped", 0, WINDOW_FRAMES + 1),
    Caution(0.0, 0.5, "no error, half the thresholds, two frames skipped or six looks a window", 2, 6, 3),
    Caution(0.0, 1.0, "no error"),
    Caution(0.5, 1.0, "half the budgets"),
    Caution(0.75, 1.0, "three quarters of the budgets"),
)
"""From the safest to the cheapest."""


@dataclass(frozen=True)
class Candidate:
    """A cascade on the scores it was searched on.

    Attributes:
        choice: parts and thresholds.
        caution: place in `CAUTIONS` of how its thresholds were set.
        cost_s: CPU seconds a frame, decoding included.
        missed: positive windows that it labels negative; where there is time, windows begin at each frame.
        positives: positive windows.
        invented: negative windows that it labels positive.
        negatives: negative windows.
        frame_error: share of frames with another label than the reference's.
        shares: share of frames that each stage of `DecidedBy` decides.
    """

    choice: Choice
    caution: int
    cost_s: float
    missed: int
    positives: int
    invented: int
    negatives: int
    frame_error: float
    shares: tuple[float, ...]

    @property
    def error(self) -> float:
        """Share of windows with another label than the reference's."""
        return (self.missed + self.invented) / max(1, self.positives + self.negatives)


@dataclass(frozen=True)
class WindowRows:
    """The whole windows of a table.

    Attributes:
        rows: rows of each window, [w, 30].
        stretch: number of the stretch of consecutive frames that each window is in, [w].
        truth: true label of each window, [w].
    """

    rows: NDArray[np.int64]
    stretch: NDArray[np.int64]
    truth: NDArray[np.bool_]

    @classmethod
    def of(cls, table: ScoreTable, step: int = WINDOW_FRAMES) -> WindowRows:
        """The windows of consecutive frames of the same clip; a rest that fills none is left out.

        Args:
            table: a row for each frame.
            step: frames from the start of a window to that of the next. Windows that follow each other begin
                at numbers that 30 divides, as those of a whole video do; in a stretch of labelled frames that
                is too short for that, at its first frame.
        """
        if not len(table):
            empty = np.zeros(0, np.int64)
            return cls(empty.reshape(0, WINDOW_FRAMES), empty, empty.astype(bool))
        number, video = np.asarray(table.number), np.asarray(table.video)
        new = np.flatnonzero((np.diff(number) != 1) | (np.diff(video) != 0)) + 1
        starts, ends = np.concatenate([[0], new]), np.concatenate([new, [len(number)]])
        if step == WINDOW_FRAMES:
            whole = starts + -number[starts] % WINDOW_FRAMES
            starts = np.where(whole + WINDOW_FRAMES <= ends, whole, starts)
        counts = np.maximum(0, (ends - starts - WINDOW_FRAMES) // step + 1)
        firsts = [start + step * np.arange(count) for start, count in zip(starts, counts, strict=True)]
        rows = np.concatenate(firsts)[:, None] + np.arange(WINDOW_FRAMES)
        stretch = np.repeat(np.arange(len(starts)), counts)
        truth = np.asarray(table.label, bool)[rows].sum(axis=1) >= LEAST_POSITIVE
        return cls(rows, stretch, truth)

    def labels(self, labels: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The label of each window, [w], from that of each frame, [n]."""
        before = np.concatenate([[0], np.cumsum(labels)])
        first = self.rows[:, 0]
        return np.asarray(before[first + WINDOW_FRAMES] - before[first] >= LEAST_POSITIVE)


def part_of(table: ScoreTable, *parts: str) -> ScoreTable:
    """The rows of some parts of `PARTS`; a segment starts anew where rows between were left out."""
    chosen = np.flatnonzero(np.isin(table.part, [PARTS.index(part) for part in parts]))
    changed: dict[str, Any] = {
        field.name: value[chosen]
        for field in dataclasses.fields(table)
        if isinstance(value := getattr(table, field.name), np.ndarray)
    }
    changed["first"] = changed["first"] | (np.diff(chosen, prepend=-2) != 1)
    for name in ("differences", "specialised"):
        changed[name] = {column: scores[chosen] for column, scores in getattr(table, name).items()}
    return dataclasses.replace(table, **changed)


def search(
    table: ScoreTable, budgets: Budgets, cautions: Sequence[Caution] = CAUTIONS
) -> tuple[Candidate, ...]:
    """Every combination of parts with the best thresholds for each caution.

    Args:
        table: scores of the frames to choose on.
        budgets: shares of windows that may be wrong.
        cautions: how far to stay away from them.

    Returns:
        Those that keep the budgets with their caution, cheapest first.
    """
    searching = _Search(table, budgets, cautions)
    return tuple(sorted(searching.candidates(), key=lambda one: (one.cost_s, one.caution)))


class _Search:
    def __init__(self, table: ScoreTable, budgets: Budgets, cautions: Sequence[Caution]) -> None:
        self._table, self._cautions, self._budgets = table, cautions, budgets
        # overlapping windows, so that it does not depend on where the first of them happens to begin
        step = min(WINDOW_FRAMES, -(-len(table) // _MOST_WINDOWS))
        self._windows = WindowRows.of(table, max(1, step))
        self._label = np.asarray(table.label, bool)
        truth = self._windows.truth
        self._positive, self._negative = self._windows.rows[truth], self._windows.rows[~truth]
        self._frames = (budgets.fn, budgets.fp)
        self._allowed = [
            (int(caution.share * budgets.fn * truth.sum()), int(caution.share * budgets.fp * (~truth).sum()))
            for caution in cautions
        ]
        self._tolerated = int(_TOLERATED * WINDOW_FRAMES / max(1, step))

    def candidates(self) -> Iterator[Candidate]:
        yield from self._looking()
        for base in self._bases():
            tree = CopyTree.of(self._table, base)
            places = (place for place, one in enumerate(self._cautions) if _allows(one, base, tree))
            first = next(places, None)
            if first is not None and self._possible(tree):
                yield from self._with_thresholds(base, tree, first)
                for choice, safest in self._detectors(base, first):
                    tree = CopyTree.of(self._table, choice)
                    if self._possible(tree):
                        yield from self._with_thresholds(choice, tree, safest)

    def _looking(self) -> Iterator[Candidate]:
        """Windows that are looked at as a whole, with each CNN and without one."""
        windows = self._windows
        for looks in LOOKS:
            alone = WindowScores(windows.rows, windows.truth, self._label, looks, None)
            places = [place for place, one in enumerate(self._cautions) if one.fewest_looks <= len(looks)]
            missed, invented, *_ = alone.decided(0.0, 1.0, WINDOW_FRAMES)
            few = min(missed, self._tolerated), min(invented, self._tolerated)
            limits = {
                place: (self._allowed[place][0] + few[0], self._allowed[place][1] + few[1])
                for place in places
            }
            yield from self._kept_looks(Choice(looks=looks), alone, limits)
            for name, scores in self._table.specialised.items():
                seen = WindowScores(windows.rows, windows.truth, self._label, looks, scores)
                for place in places:
                    caution = self._cautions[place]
                    frames = self._frames if caution.shrink < 1 else (1.0, 1.0)
                    found = seen.within(*self._allowed[place], caution.shrink, frames)
                    low, high = (single(one) for one in found)
                    if caution.shrink < 1:
                        high = max(high, seen.highest_without(self._budgets))
                    half = min(single(seen.half(caution.shrink)), high)
                    for most in [most for most in ASKED if most >= caution.fewest_asked]:
                        choice = Choice(looks=looks, cnn=name, c_low=low, c_high=high, c_half=half)
                        choice = dataclasses.replace(choice, most_asked=most)
                        yield from self._kept_looks(choice, seen, {place: limits[place]})

    def _kept_looks(
        self, choice: Choice, seen: WindowScores, limits: dict[int, tuple[int, int]]
    ) -> Iterator[Candidate]:
        """The choice for the first of these cautions whose limits of wrong windows it keeps."""
        thresholds = choice.c_low, choice.c_high, choice.most_asked, choice.c_half
        missed, invented, own, asked = seen.decided(*thresholds)
        for place, (fn, fp) in limits.items():
            if missed <= fn and invented <= fp:
                shares = dict.fromkeys(DecidedBy, 0.0)
                shares[DecidedBy.SPECIALISED], shares[DecidedBy.REFERENCE] = own, asked
                shares[DecidedBy.SKIPPED] = 1 - own - asked
                found = replay(self._table, choice)
                yield Candidate(
                    choice=choice,
                    caution=place,
                    cost_s=cost_of_shares(self._table, choice, tuple(shares.values())),
                    missed=missed,
                    positives=len(self._positive),
                    invented=invented,
                    negatives=len(self._negative),
                    frame_error=float(np.mean(found.labels != self._label)),
                    shares=tuple(shares.values()),
                )
                return

    def _bases(self) -> Iterator[Choice]:
        """Which frames are looked at, with and without a rule on packets."""
        costs = self._table.costs
        rules = [None, *self._packet_rules()]
        for which in ("all", "nonref", "nonkey"):
            if which != "all" and not costs.get(f"decode:{which}", 1.0) < _WORTH * costs["decode:all"]:
                continue
            for every in _EVERY if which != "nonkey" else (1,):
                for rule in rules:
                    yield Choice(every=every, which=which, packets=rule)

    def _packet_rules(self) -> Iterator[PacketRule]:
        if self._table.packets is None:
            return
        nothing = CopyTree.of(self._table, Choice())
        for shrink in (0.5, 1.0):
            low, high = self._exact(nothing, self._table.packets).within(0, 0, shrink)
            if low > 0 or high < 1:
                yield PacketRule(low, high)

    def _detectors(self, base: Choice, first: int) -> Iterator[tuple[Choice, int]]:
        """Each detector that was run for these frames, with its thresholds and the safest caution of each.

        Thresholds worth a try are the scores of frames that have another label than their anchor's: between
        two of them no further frame copies a wrong label.
        """
        names = [
            name.removeprefix("difference:") for name in self._table.costs if name.startswith("difference:")
        ]
        for name in names:
            scores = self._table.difference(name, base.every, base.which)
            if scores is None:
                continue
            if name.endswith(":reference"):
                differ = self._label
            else:
                anchors = self._table.anchors(name, base.every, base.which)
                differ = (anchors >= 0) & (self._label != self._label[anchors])
            finite = np.isfinite(scores)
            critical = np.sort(scores[differ & finite])
            if not len(critical):
                critical = np.quantile(scores[finite], [0.9]) if finite.any() else critical
            tried: dict[float, int] = {}
            for place, caution in enumerate(self._cautions[first:], first):
                for errors in _ERRORS_OF_DELTA if caution.share else (0,):
                    if errors < len(critical):
                        tried.setdefault(single(critical[errors] * caution.shrink), place)
            for delta, place in sorted(tried.items()):
                if delta > 0:
                    yield dataclasses.replace(base, detector=name, delta=delta), place

    def _possible(self, tree: CopyTree) -> bool:
        """Whether the budgets are kept when the reference decides all that is left."""
        labels = ((self._label & ~tree.negative) | tree.positive)[tree.roots]
        missed, invented = self._errors(labels)
        return any(missed <= fn and invented <= fp for fn, fp in self._allowed)

    def _errors(self, labels: NDArray[np.bool_]) -> tuple[int, int]:
        found, truth = self._windows.labels(labels), self._windows.truth
        return int(np.count_nonzero(truth & ~found)), int(np.count_nonzero(~truth & found))

    def _with_thresholds(self, choice: Choice, tree: CopyTree, safest: int) -> Iterator[Candidate]:
        """The reference for all that is left, and each CNN before it."""
        places = range(safest, len(self._cautions))
        yield from self._kept(choice, tree, places)
        for name, scores in self._table.specialised.items():
            seen: set[tuple[float, float]] = set()
            exact = self._exact(tree, scores)
            for place in places:
                caution = self._cautions[place]
                frames = self._frames if caution.shrink < 1 else (1.0, 1.0)
                low, high = exact.within(*self._allowed[place], caution.shrink, frames)
                if (low, high) in seen or (low <= 0 and high >= 1):
                    continue
                seen.add((low, high))
                yield from self._kept(
                    dataclasses.replace(choice, cnn=name, c_low=low, c_high=high), tree, [place]
                )

    def _kept(self, choice: Choice, tree: CopyTree, places: Sequence[int]) -> Iterator[Candidate]:
        """The choice for the first caution of these places that it keeps the budgets with."""
        found = tree.replay(self._table, choice)
        missed, invented = self._errors(found.labels)
        for place in places:
            fn, fp = self._allowed[place]
            if missed > fn or invented > fp:
                continue
            yield Candidate(
                choice=choice,
                caution=place,
                cost_s=cost_per_frame(self._table, choice, found.stages),
                missed=missed,
                positives=len(self._positive),
                invented=invented,
                negatives=len(self._negative),
                frame_error=float(np.mean(found.labels != self._label)),
                shares=tuple(found.share(stage) for stage in DecidedBy),
            )
            return

    def _exact(self, tree: CopyTree, scores: NDArray[np.float32]) -> ExactThresholds:
        return ExactThresholds(tree, scores, self._label, self._positive, self._negative)


def _allows(caution: Caution, base: Choice, tree: CopyTree) -> bool:
    """Whether frames may be left out as in this choice."""
    if caution.most_skipped is None:
        return True
    looked = np.flatnonzero(tree.stages != DecidedBy.SKIPPED)
    ends = np.concatenate([[-1], looked, [len(tree.stages)]])
    return base.packets is None and int(np.diff(ends).max()) <= caution.most_skipped + 1
