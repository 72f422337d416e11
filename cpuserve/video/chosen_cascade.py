"""Chooses the cheapest cascade whose budgets can be proven on time it was not chosen on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpuserve.errors import UsageError
from cpuserve.video.cascade_choice import REFERENCE_ONLY, Choice, DecidedBy, Replay, cost_per_frame, replay
from cpuserve.video.cascade_search import CAUTIONS, Candidate, WindowRows, part_of, search
from cpuserve.video.guarantee import (
    Budgets,
    ErrorBound,
    EventErrors,
    expected_growth,
    planned_stake,
)
from cpuserve.video.score_table import PARTS, ScoreTable
from cpuserve.video.windows import WINDOW_FRAMES, changes, clopper_pearson

__all__ = ["ChosenCascade", "Counts", "Promise", "ProofStep", "choose_cascade", "plan_parts"]

_SHARES = (0.4, 0.2, 0.4)
_UNPROVEN = 1  # the caution of `CAUTIONS` without a promise
_SURE = 0.95  # of errors that are too many for any length
_AT_LEAST_MORE = 0.05  # of what was labelled: less more is not worth a second try


@dataclass(frozen=True)
class ProofStep:
    """A cascade whose budgets were tested.

    Attributes:
        candidate: on the time it was chosen on.
        fn: bound of the share of missed windows, on the time of the proof.
        fp: bound of the share of falsely reported windows.
        kept: whether both bounds keep the budgets.
    """

    candidate: Candidate
    fn: ErrorBound
    fp: ErrorBound
    kept: bool


@dataclass(frozen=True)
class Counts:
    """How much was labelled for one purpose.

    Attributes:
        minutes: of video.
        changes: of the label.
        positive_windows: windows with the object.
        negative_windows: windows without it.
        positive_events: runs of windows with the object.
        negative_events: runs without it.
    """

    minutes: float
    changes: int
    positive_windows: int
    negative_windows: int
    positive_events: int
    negative_events: int


@dataclass(frozen=True)
class Promise:
    """What is promised of the chosen cascade, or why nothing is.

    Attributes:
        budgets: what was asked for.
        promised: whether both budgets are proven.
        steps: cascades that were tested, from the safest to the first that failed.
        fn: bound of the chosen cascade; None where nothing could be tested.
        fp: the same for false reports.
        counts: what was labelled, by the part of `PARTS`.
        more_minutes: minutes of video to label in addition, with as much to see a minute as until now and at
            most half of each budget wrong; 0 when promised, infinite when no length will do.
        words: sentences for the user, the most important first.
    """

    budgets: Budgets
    promised: bool
    steps: tuple[ProofStep, ...]
    fn: ErrorBound | None
    fp: ErrorBound | None
    counts: dict[str, Counts]
    more_minutes: float
    words: tuple[str, ...]


@dataclass(frozen=True)
class ChosenCascade:
    """The choice, with all it was chosen from.

    Attributes:
        choice: parts and thresholds; the reference alone where nothing else keeps the budgets.
        cost_s: CPU seconds a frame on the time of the proof, decoding included.
        reference_s: the same of the reference on every frame.
        sampled_s: the same of the reference on the frames that the choice looks at, which is the fair
            comparison.
        shares: share of frames that each stage of `DecidedBy` decides, on the time of the proof.
        candidates: all that keep the budgets where they were chosen, cheapest first.
        promise: what is proven.
    """

    choice: Choice
    cost_s: float
    reference_s: float
    sampled_s: float
    shares: tuple[float, ...]
    candidates: tuple[Candidate, ...]
    promise: Promise

    @property
    def speed_up(self) -> float:
        """How many times cheaper than the reference on every frame, decoding included."""
        return self.reference_s / self.cost_s


def plan_parts(label: NDArray[np.bool_], shares: Sequence[float] = _SHARES) -> NDArray[np.uint8]:
    """Divides labelled time for training, choosing and proving: one after the other, by changes of the label.

    A bound lives on changes, a network on frames: a border lies half way between the place that gives each
    part its share of the changes and the one that gives it its share of the frames, and there in the middle
    between two changes, of which no side gets less than half of its share. Without enough changes the shares
    are of frames.

    Args:
        label: of each frame, [n].
        shares: of the three parts; they add up to 1.

    Returns:
        The place in `PARTS` of each frame, [n].
    """
    label = np.asarray(label, bool)
    places = np.flatnonzero(label[1:] != label[:-1]) + 1
    ends = np.concatenate([[0], places, [len(label)]])
    borders: list[int] = []
    for share in np.cumsum(shares)[:-1]:
        rank = round(float(share) * len(places))
        if len(places) < len(PARTS) or not 0 < rank < len(places):
            borders.append(round(float(share) * len(label)))
        else:
            by_changes, by_frames = (places[rank - 1] + places[rank]) / 2, float(share) * len(label)
            fewest = round(share * len(places) / 2), round((1 - share) * len(places) / 2)
            middles = ((ends[1:] + ends[:-1]) // 2)[fewest[0] : len(places) + 1 - fewest[1]]
            borders.append(int(middles[np.argmin(np.abs(middles - (by_changes + by_frames) / 2))]))
    return np.searchsorted(np.array(borders), np.arange(len(label)), side="right").astype(np.uint8)


def choose_cascade(table: ScoreTable, budgets: Budgets) -> ChosenCascade:
    """Choose on the part ``choose`` of a table, prove on its part ``test``.

    For each caution of `CAUTIONS`, from the safest on, the cheapest cascade that keeps it is tested on the
    time of the proof, until one fails; the last that passed is chosen. Testing in an order that was fixed
    before, and stopping at the first failure, costs no confidence. If already the first fails, nothing is
    promised: then there is no proof to keep time for, and the cheapest of the second caution is searched for
    on the time of both parts.

    Args:
        table: scores and labels of every frame of both parts.
        budgets: what may be wrong, and the confidence.

    Raises:
        UsageError: frames without a label, or a part that is shorter than a window.
    """
    choosing, proving = part_of(table, "choose"), part_of(table, "test")
    for name, part in (("choose", choosing), ("test", proving)):
        if not np.all(part.labelled):
            missing = int(np.count_nonzero(~part.labelled))
            raise UsageError(f"{missing} frames of the part {name} have no label of the reference")
        if not len(WindowRows.of(part).rows):
            raise UsageError(
                f"the part {name} has {len(part)} frames in a row, less than a window of {WINDOW_FRAMES}: "
                f"label a longer video"
            )
    candidates = search(choosing, budgets)
    sequence = _sequence(candidates)
    proof = _Proof(table, choosing, proving, budgets)
    steps: list[ProofStep] = []
    for candidate in sequence:
        steps.append(proof.step(candidate))
        if not steps[-1].kept:
            break
    kept = [step for step in steps if step.kept]
    if kept:
        choice, shown = kept[-1].candidate.choice, kept[-1]
    elif sequence:
        careful = [one for one in sequence if one.caution <= _UNPROVEN] or sequence[:1]
        choice, shown = _unproven(table, budgets), proof.step(careful[-1])
    else:
        choice, shown = REFERENCE_ONLY, None
    found = replay(proving, choice)
    alone, sampled = Choice(), Choice(every=choice.every, which=choice.which)
    return ChosenCascade(
        choice=choice,
        cost_s=cost_per_frame(proving, choice, found.stages),
        reference_s=cost_per_frame(proving, alone, replay(proving, alone).stages),
        sampled_s=cost_per_frame(proving, sampled, replay(proving, sampled).stages),
        shares=tuple(found.share(stage) for stage in DecidedBy),
        candidates=candidates,
        promise=proof.promise(steps, shown, promised=bool(kept)),
    )


def _unproven(table: ScoreTable, budgets: Budgets) -> Choice:
    """The cascade to take where nothing can be promised, chosen on all the time that was held out."""
    sequence = _sequence(search(part_of(table, "choose", "test"), budgets))
    careful = [one for one in sequence if one.caution <= _UNPROVEN] or sequence[:1]
    return careful[-1].choice if careful else REFERENCE_ONLY


def _sequence(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The cheapest cascade of each caution, each cheaper than the one before it."""
    sequence: list[Candidate] = []
    for place in range(len(CAUTIONS)):
        allowed = [one for one in candidates if one.caution <= place and not one.choice.decides_nothing]
        if allowed and (not sequence or allowed[0].cost_s < sequence[-1].cost_s):
            sequence.append(allowed[0])
    return sequence


class _Proof:
    """Tests cascades on time they were not chosen on."""

    def __init__(
        self, table: ScoreTable, choosing: ScoreTable, proving: ScoreTable, budgets: Budgets
    ) -> None:
        self._table, self._budgets = table, budgets
        self._parts = {
            "choose": (choosing, WindowRows.of(choosing)),
            "test": (proving, WindowRows.of(proving)),
        }
        before = WindowRows.of(part_of(table, "train", "choose"))
        self._longest = {sign: _longest(before, positive=sign) for sign in (True, False)}

    def _events(self, part: str, found: Replay, *, positive: bool) -> EventErrors:
        _, windows = self._parts[part]
        return EventErrors.of(
            windows.truth,
            windows.labels(found.labels),
            windows.stretch,
            self._longest[positive],
            positive=positive,
        )

    def step(self, candidate: Candidate) -> ProofStep:
        """Test one cascade."""
        replays = {name: replay(part, candidate.choice) for name, (part, _) in self._parts.items()}
        bounds = {}
        for positive in (True, False):
            pilot, proof = (self._events(name, replays[name], positive=positive) for name in self._parts)
            longest = self._longest[positive]
            stake = planned_stake(pilot, longest, proof.windows, self._budgets.alpha)
            bounds[positive] = ErrorBound.of(proof, longest, stake, self._budgets.alpha)
        fn, fp = bounds[True], bounds[False]
        kept = fn.bound <= self._budgets.fn and fp.bound <= self._budgets.fp
        return ProofStep(candidate, fn, fp, kept)

    def promise(self, steps: Sequence[ProofStep], shown: ProofStep | None, *, promised: bool) -> Promise:
        """What is proven, and how much more to label where nothing is."""
        counts = {name: _counts(self._table, (name,)) for name in PARTS}
        more = 0.0 if promised or shown is None else self._more_minutes(shown)
        return Promise(
            budgets=self._budgets,
            promised=promised,
            steps=tuple(steps),
            fn=shown.fn if shown else None,
            fp=shown.fp if shown else None,
            counts=counts,
            more_minutes=more if shown else math.inf,
            words=tuple(_words(self._budgets, shown, counts, more, promised=promised)),
        )

    def _more_minutes(self, shown: ProofStep) -> float:
        """Minutes to label before both bounds can be expected to keep the budgets."""
        labelled = _counts(self._table, PARTS).minutes
        proving = _counts(self._table, ("test",)).minutes
        needed = 0.0
        replays = {name: replay(part, shown.candidate.choice) for name, (part, _) in self._parts.items()}
        for positive, budget in ((True, self._budgets.fn), (False, self._budgets.fp)):
            events = [self._events(name, replays[name], positive=positive) for name in self._parts]
            seen = sum(_counts(self._table, (name,)).minutes for name in self._parts)
            sizes = np.concatenate([one.sizes for one in events])
            rate = _assumed_rate(events, budget)
            gain = 0.0 if rate is None else expected_growth(sizes, rate, self._longest[positive], budget)
            needed = max(needed, math.inf if gain <= 0 else seen * -math.log(self._budgets.alpha) / gain)
        # what is labelled in addition is divided as before: only a part of it proves
        return max(needed * labelled / proving - labelled, _AT_LEAST_MORE * labelled)


def _assumed_rate(events: Sequence[EventErrors], budget: float) -> float | None:
    """The share of wrong windows to expect of a longer time: half the budget at most, None if above it."""
    wrong, of = sum(one.errors for one in events), sum(one.windows for one in events)
    wrong_events = sum(int(np.count_nonzero(one.wrong)) for one in events)
    if clopper_pearson(wrong_events, sum(len(one.sizes) for one in events), _SURE)[0] > budget:
        return None
    return min(wrong / of, budget / 2) if of else 0.0


def _longest(windows: WindowRows, *, positive: bool) -> int:
    """Windows of the longest event."""
    most = len(windows.truth) + 1
    whole = EventErrors.of(windows.truth, windows.truth, windows.stretch, most, positive=positive)
    return int(whole.sizes.max(initial=1))


def _counts(table: ScoreTable, parts: Sequence[str]) -> Counts:
    part = part_of(table, *parts)
    windows = WindowRows.of(part)
    runs = {
        sign: EventErrors.of(windows.truth, windows.truth, windows.stretch, len(table) + 1, positive=sign)
        for sign in (True, False)
    }
    return Counts(
        minutes=len(part) / table.frame_rate / 60,
        changes=changes(np.asarray(part.label, bool)),
        positive_windows=runs[True].windows,
        negative_windows=runs[False].windows,
        positive_events=len(runs[True].sizes),
        negative_events=len(runs[False].sizes),
    )


def _words(
    budgets: Budgets, shown: ProofStep | None, counts: dict[str, Counts], more: float, *, promised: bool
) -> list[str]:
    """The promise, or why there is none and what to do, in sentences."""
    seen = counts["test"]
    on = (
        f"{seen.minutes:.1f} minutes with {seen.changes} changes of the label, "
        f"{seen.positive_windows} windows with the object and {seen.negative_windows} without it"
    )
    if shown is None:
        return [
            "No cascade keeps the budgets where it was to be chosen: the reference answers every frame.",
            "Train longer, bring another CNN, or allow more with --fn and --fp.",
        ]
    bounds = f"missed at most {shown.fn.bound:.2%}, falsely reported at most {shown.fp.bound:.2%} of windows"
    if promised:
        return [
            f"Promised with confidence {budgets.confidence:.0%}: {bounds}.",
            f"Proven on {on}, none of which the thresholds were chosen on.",
        ]
    words = [
        f"Nothing is promised: with confidence {budgets.confidence:.0%} no more can be said of a careful "
        f"cascade than: {bounds}, and {budgets.fn:.2%} and {budgets.fp:.2%} were asked for.",
        "The thresholds that are written were chosen on all labelled time but that of the training.",
        f"The proof had {on}.",
    ]
    if math.isinf(more):
        missing = [name for name, bound in (("with", shown.fn), ("without", shown.fp)) if bound.windows == 0]
        if missing:
            words.append(f"No window {' or '.join(missing)} the object was seen: label a time that has some.")
        else:
            words.append("Its errors are too many for these budgets: longer labelling will not help.")
    else:
        words.append(
            f"Label {_minutes(more)} more minutes of such video, and train again: enough if at most half of "
            f"each budget is wrong in them, and no run of one label is longer than the longest so far."
        )
    return words


def _minutes(minutes: float) -> str:
    """Minutes rounded up to two figures."""
    if minutes < 10:
        return f"{math.ceil(10 * minutes) / 10:g}"
    unit = 10 ** (math.floor(math.log10(minutes)) - 1)
    return f"{math.ceil(minutes / unit) * unit:g}"
