"""Writes how a cascade was chosen as one HTML page: promise, cost, shares and scores."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cpuserve.reports.charts import Dot, plot
from cpuserve.reports.drawing import Drawing
from cpuserve.reports.page import render
from cpuserve.video.cascade_charts import STAGES, BoundBar, ScoreGroup, bound_bar, score_histogram, share_bars
from cpuserve.video.cascade_choice import Choice, DecidedBy
from cpuserve.video.cascade_search import CAUTIONS, Candidate, part_of
from cpuserve.video.chosen_cascade import ChosenCascade
from cpuserve.video.guarantee import ErrorBound
from cpuserve.video.score_table import PARTS, ScoreTable
from cpuserve.video.windows import WINDOW_FRAMES

__all__ = ["cascade_page", "choice_words"]

_PURPOSES = {"train": "training the CNN", "choose": "choosing thresholds", "test": "the proof"}
_WHICH = {"nonref": "without frames that no other refers to", "nonkey": "keyframes alone"}
_FEW_EVENTS = 30
_MOST_DOTS = 400
_MOST_LISTED = 40

_Row = tuple[str, Sequence[str]]
"""The class of a table's row, and its cells."""


class _Histogram(NamedTuple):
    drawing: Drawing
    caption: str
    legend: Sequence[tuple[str, str]]


def cascade_page(table: ScoreTable, chosen: ChosenCascade) -> str:
    """The whole page.

    Args:
        table: scores that the cascade was chosen on.
        chosen: the choice with all it was chosen from.
    """
    promise = chosen.promise
    minutes = sum(one.minutes for one in promise.counts.values())
    budgets = promise.budgets
    about = (
        f"{minutes:.1f} minutes labelled · at most {budgets.fn:.2%} of windows missed and {budgets.fp:.2%} "
        f"falsely reported · confidence {budgets.confidence:.0%}"
    )
    return render(
        "cpuserve.video",
        "cascade.html",
        title=f"cpuserve video: {table.query}",
        script="",
        query=table.query,
        about=about,
        tiles=_tiles(chosen),
        conclusion=[*promise.words, *_conclusion(chosen)],
        warnings=list(_warnings(chosen)),
        notes=table.notes,
        bounds=list(_bounds(chosen)),
        counts=list(_counts(chosen)),
        steps=list(_steps(chosen)),
        costs=_costs(chosen),
        shares=_shares(chosen),
        stages=[(f"{colour} series", name) for colour, name in STAGES],
        histograms=list(_histograms(table, chosen.choice)),
        candidates=list(_listed(chosen)),
        searched=len(chosen.candidates),
    )


def choice_words(choice: Choice) -> str:
    """Parts and thresholds in a sentence's worth of words."""
    parts = []
    if choice.every > 1:
        parts.append(f"1 of {choice.every} frames")
    if choice.looks:
        parts.append(f"{len(choice.looks)} looks at each window of {WINDOW_FRAMES} frames")
        if choice.most_asked < len(choice.looks):
            parts.append(f"{choice.most_asked} of them at most for the reference")
    if choice.which != "all":
        parts.append(
            "keyframes alone" if choice.which == "nonkey" else "without frames that no other refers to"
        )
    if choice.packets is not None:
        parts.append(f"packets below {choice.packets.low:.3g} no, above {choice.packets.high:.3g} yes")
    if choice.detector is not None:
        parts.append(f"{choice.detector} below {choice.delta:.3g} no change")
    if choice.cnn is not None:
        half = f", half of a window below {choice.c_half:.3g} no" if choice.c_half else ""
        parts.append(f"CNN {choice.cnn} below {choice.c_low:.3g} no, above {choice.c_high:.3g} yes{half}")
    return ", ".join(parts) or "the reference on every frame"


def _tiles(chosen: ChosenCascade) -> list[tuple[str, str, str, str]]:
    promise = chosen.promise
    tiles = [
        ("Times as cheap", f"{chosen.speed_up:.1f}", "x", "as the reference on every frame, with decoding"),
        ("CPU time", f"{1000 * chosen.cost_s:.2f}", "ms", "a frame of the video"),
        ("Reference", f"{100 * chosen.shares[DecidedBy.REFERENCE]:.1f}", "%", "of the frames"),
    ]
    for name, bound, budget in (
        ("Missed", promise.fn, promise.budgets.fn),
        ("Falsely reported", promise.fp, promise.budgets.fp),
    ):
        value = "-" if bound is None else f"{100 * bound.bound:.2f}"
        tiles.append((name, value, "%", f"of windows at most; budget {budget:.2%}"))
    tiles.append(("Promise", "given" if promise.promised else "none", "", _promise_note(chosen)))
    return tiles


def _promise_note(chosen: ChosenCascade) -> str:
    promise = chosen.promise
    if promise.promised:
        return f"confidence {promise.budgets.confidence:.0%}"
    return "see below" if math.isinf(promise.more_minutes) else "too little was labelled"


def _conclusion(chosen: ChosenCascade) -> list[str]:
    looked = chosen.sampled_s / chosen.cost_s
    return [
        f"Chosen: {choice_words(chosen.choice)}.",
        f"It costs {1000 * chosen.cost_s:.2f} ms of CPU a frame, decoding included; the reference on every "
        f"frame {1000 * chosen.reference_s:.2f} ms ({chosen.speed_up:.1f} times as much), on the frames that "
        f"the cascade looks at {1000 * chosen.sampled_s:.2f} ms ({looked:.1f} times).",
    ]


def _warnings(chosen: ChosenCascade) -> Iterator[str]:
    promise = chosen.promise
    for part in ("choose", "test"):
        counts = promise.counts[part]
        for words, events in (("with", counts.positive_events), ("without", counts.negative_events)):
            if events < _FEW_EVENTS:
                yield (
                    f"Only {events} events {words} the object were seen for {_PURPOSES[part]}: "
                    f"thresholds and bounds may be far from those of a longer time."
                )
    if not promise.promised:
        yield (
            "Thresholds that fit a short time often fail on the next. Run the cascade with an audit "
            "(cpuserve video run --audit), which measures its errors while it runs."
        )


def _bounds(chosen: ChosenCascade) -> Iterator[Drawing]:
    promise = chosen.promise
    for name, bound, budget in (
        ("Missed (FN)", promise.fn, promise.budgets.fn),
        ("Falsely reported (FP)", promise.fp, promise.budgets.fp),
    ):
        if bound is not None:
            observed = bound.wrong / max(1, bound.windows)
            yield bound_bar(BoundBar(name, observed, bound.bound, budget, _bound_words(bound)))


def _bound_words(bound: ErrorBound) -> str:
    return (
        f"{bound.wrong} of {bound.windows} windows, in {bound.wrong_events} of {bound.events} events "
        f"({bound.method})"
    )


def _counts(chosen: ChosenCascade) -> Iterator[_Row]:
    for part in PARTS:
        one = chosen.promise.counts[part]
        cells = [one.changes, one.positive_windows, one.negative_windows]
        cells += [one.positive_events, one.negative_events]
        yield "", [_PURPOSES[part], f"{one.minutes:.1f}", *map(str, cells)]


def _steps(chosen: ChosenCascade) -> Iterator[_Row]:
    for step in chosen.promise.steps:
        best = step.kept and step.candidate.choice == chosen.choice
        cells = [f"{1000 * step.candidate.cost_s:.2f}"]
        for bound in (step.fn, step.fp):
            cells += [f"{bound.wrong} of {bound.windows}", f"{bound.bound:.2%}"]
        words = "chosen" if best else "passed" if step.kept else "failed"
        caution = CAUTIONS[step.candidate.caution].words
        yield "best" if best else "", [words, caution, choice_words(step.candidate.choice), *cells]


def _costs(chosen: ChosenCascade) -> Drawing:
    """Every candidate by its errors and its cost, the chosen one and the reference marked."""
    shown = [one for one in chosen.candidates if not one.choice.decides_nothing]
    shown = shown[:: max(1, math.ceil(len(shown) / _MOST_DOTS))]
    dots = [_dot(one, "trial") for one in reversed(shown) if one.choice != chosen.choice]
    tested = {step.candidate.choice for step in chosen.promise.steps}
    dots += [
        _dot(one, "front")
        for one in chosen.candidates
        if one.choice in tested and one.choice != chosen.choice
    ]
    dots.append(Dot(0.0, 1000 * chosen.reference_s, "default", label="reference on every frame"))
    dots += [_dot(one, "best", "chosen") for one in chosen.candidates if one.choice == chosen.choice][:1]
    title = "% of frames labelled otherwise than by the reference"
    return plot(dots, [], title, "CPU ms a frame", log=True, size=(460, 330))


def _dot(one: Candidate, kind: str, label: str = "") -> Dot:
    tip = f"{choice_words(one.choice)}: {1000 * one.cost_s:.2f} ms, {one.frame_error:.2%} of frames"
    return Dot(100 * one.frame_error, 1000 * one.cost_s, kind, label=label, tip=tip)


def _shares(chosen: ChosenCascade) -> Drawing:
    names = [name for _, name in STAGES]
    rows = [("chosen", chosen.shares)]
    for step in chosen.promise.steps:
        if step.candidate.choice != chosen.choice:
            words = f"{'passed' if step.kept else 'failed'}: {CAUTIONS[step.candidate.caution].words}"
            rows.append((words, step.candidate.shares))
    return share_bars(rows, names, [colour for colour, _ in STAGES])


def _histograms(table: ScoreTable, choice: Choice) -> Iterator[_Histogram]:
    known = part_of(table, "choose", "test")
    label = np.asarray(known.label, bool)
    with_it, without = ("s3", "with the object"), ("s0", "without it")
    legend = [(f"{colour} series", words) for colour, words in (with_it, without)]
    groups = [(with_it[0], label), (without[0], ~label)]
    if choice.cnn is not None:
        scores = known.specialised[choice.cnn]
        caption = f"CNN {choice.cnn}: probability that the object is there"
        levels = [choice.c_low, *([choice.c_half] if choice.c_half else []), choice.c_high]
        yield _Histogram(_histogram(scores, groups, levels, caption), caption, legend)
    if choice.packets is not None and known.packets is not None:
        caption = "Sizes of packets: probability that the object is there"
        levels = [choice.packets.low, choice.packets.high]
        yield _Histogram(_histogram(known.packets, groups, levels, caption), caption, legend)
    if choice.detector is None:
        return
    scores_or_none = known.difference(choice.detector, choice.every, choice.which)
    if scores_or_none is None:
        return
    caption = f"{choice.detector}: difference, as a power of ten"
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = np.log10(np.maximum(scores_or_none, 1e-3))
    levels = [math.log10(max(choice.delta, 1e-3))]
    if not choice.detector.endswith(":reference"):
        anchors = known.anchors(choice.detector, choice.every, choice.which)
        changed = (anchors >= 0) & (label != label[anchors])
        groups = [("s3", changed), ("s0", (anchors >= 0) & ~changed)]
        legend = [("s3 series", "the label changed"), ("s0 series", "it did not")]
    yield _Histogram(_histogram(scores, groups, levels, caption), caption, legend)


def _histogram(
    scores: NDArray[np.float32],
    groups: Sequence[tuple[str, NDArray[np.bool_]]],
    levels: Sequence[float],
    title: str,
) -> Drawing:
    finite = np.isfinite(scores)
    return score_histogram(
        [ScoreGroup(colour, scores[chosen & finite]) for colour, chosen in groups], levels, title
    )


def _listed(chosen: ChosenCascade) -> Iterator[_Row]:
    """The cheapest candidates, one for each set of parts and caution."""
    seen: set[tuple[object, ...]] = set()
    for one in chosen.candidates:
        choice = one.choice
        frames = choice.every, choice.which, choice.looks, choice.most_asked
        kind = (*frames, choice.packets is None, choice.detector, choice.cnn, one.caution)
        if kind in seen or len(seen) >= _MOST_LISTED:
            continue
        seen.add(kind)
        fn, fp = f"{one.missed} of {one.positives}", f"{one.invented} of {one.negatives}"
        reference = f"{one.shares[DecidedBy.REFERENCE]:.1%}"
        words = CAUTIONS[one.caution].words
        row = [choice_words(choice), words, f"{1000 * one.cost_s:.2f}", fn, fp, reference]
        yield "best" if choice == chosen.choice else "", row
