"""Makes the difference detectors for a clip, runs them over it, and measures what they take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from cpuserve.serving.engine import Array
from cpuserve.video.difference import DifferenceDetector, make_detector
from cpuserve.video.logistic import fit_logistic
from cpuserve.video.picture_difference import block_features, residual, small_picture
from cpuserve.video.score_table import PARTS, ScoreTable, Which, difference_column

__all__ = ["EVERY", "TrainedDetectors", "empty_picture", "train_detectors"]

EVERY = (1, 2, 5, 10, 15, 30)
"""Of so many frames a cascade may look at one."""

_LAGS = EVERY
_BLOCKED_LAGS = (10, 30)
_SPARSE = (1, 10, 30)  # the same where not all frames are decoded
_WORTH = 0.97  # of the cost of decoding all: leaving frames out has to save that much
_RIDGE = 10.0
_LEAST_CHANGED = 20  # pairs of frames with different labels that a detector of changes is learnt from
_MOST_EMPTY = 200  # frames that the picture without the object is the median of
_MOST_LEARNT = 8000  # frames that weights are learnt from
_MEASURED = 300
_HALF_LIFE_S = 10.0  # of what the running average remembers


@dataclass
class TrainedDetectors:
    """The detectors of a clip.

    Attributes:
        detectors: by name.
        columns: of `ScoreTable.differences`.
        costs: CPU seconds a frame by name of the detector.
        notes: what was found, in sentences.
    """

    detectors: dict[str, DifferenceDetector] = field(default_factory=dict)
    columns: dict[str, Array] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def train_detectors(
    pictures: Array, table: ScoreTable, *, report: Callable[[int, int], None]
) -> TrainedDetectors:
    """Makes all detectors; what they learn is learnt on the part ``train``.

    Args:
        pictures: u8 [n, h, w, 3] of the detectors' scale, a row a frame.
        table: labels, parts, segments and the costs of decoding.
        report: called with the frames that are done, and how many there are.
    """
    found = TrainedDetectors()
    empty = {"empty": empty_picture(pictures, table)}
    for lag in _LAGS:
        _add(found, make_detector(f"global:{lag}"))
    _add(found, make_detector("global:reference", empty))
    _add(found, make_detector("average", {"half_life": np.array(_HALF_LIFE_S * table.frame_rate)}))
    _add(found, _blocked_reference(pictures, table, empty))
    for lag in _BLOCKED_LAGS:
        detector = _blocked_lag(pictures, table, lag, found.notes)
        if detector is not None:
            _add(found, detector)
    _run(pictures, table, found, report)
    for name, detector in found.detectors.items():
        found.costs[name] = _cost(pictures, detector)
    return found


def _add(found: TrainedDetectors, detector: DifferenceDetector) -> None:
    found.detectors[detector.name] = detector


def empty_picture(pictures: Array, table: ScoreTable) -> Array:
    """The median of frames without the object, u8 [h, w, 3]: what passes through is not in it."""
    rows = np.flatnonzero((table.part == PARTS.index("train")) & ~table.label)
    rows = rows[:: max(1, len(rows) // _MOST_EMPTY)]
    found: Array = np.median(pictures[rows], axis=0).astype(np.uint8)
    return found


def _blocked_reference(pictures: Array, table: ScoreTable, empty: dict[str, Array]) -> DifferenceDetector:
    """Learns which blocks differ from the empty picture when the object is there."""
    rows = np.flatnonzero(table.part == PARTS.index("train"))
    rows = rows[:: max(1, len(rows) // _MOST_LEARNT)]
    reference = small_picture(empty["empty"])
    features = np.stack([block_features(residual(small_picture(pictures[row]), reference)) for row in rows])
    weights = fit_logistic(features, table.label[rows], ridge=_RIDGE)
    return make_detector("blocked:reference", {**empty, **weights.state()})


def _blocked_lag(pictures: Array, table: ScoreTable, lag: int, notes: list[str]) -> DifferenceDetector | None:
    """Learns which blocks differ when the object came or went in between; None where it hardly ever did."""
    name = f"blocked:{lag}"
    anchors = table.anchors(name, 1)
    train = table.part == PARTS.index("train")
    rows = np.flatnonzero((anchors >= 0) & train & train[anchors])
    changed = table.label[rows] != table.label[anchors[rows]]
    count = int(changed.sum())
    if not _LEAST_CHANGED <= count <= len(rows) - _LEAST_CHANGED:
        notes.append(
            f"{name} is not offered: {count} of {len(rows)} pairs of training frames {lag} frames apart "
            f"differ in their label, and it learns from {_LEAST_CHANGED} or more"
        )
        return None
    same = np.flatnonzero(~changed)
    kept = np.sort(np.concatenate([np.flatnonzero(changed), same[:: max(1, len(same) // _MOST_LEARNT)]]))
    features = np.stack(
        [
            block_features(residual(small_picture(pictures[row]), small_picture(pictures[anchors[row]])))
            for row in rows[kept]
        ]
    )
    return make_detector(name, fit_logistic(features, changed[kept], ridge=_RIDGE).state())


def _run(
    pictures: Array, table: ScoreTable, found: TrainedDetectors, report: Callable[[int, int], None]
) -> None:
    """Runs every detector over the frames that each way of looking at them leaves; fills the columns."""
    runs: list[tuple[DifferenceDetector, Array, Array]] = []
    for name, detector in found.detectors.items():
        for every, which in _ways(table):
            column = difference_column(name, every, which)
            if column is None or column in found.columns:
                continue
            whole = column == name  # holds for every way of looking: computed for each frame
            seen = np.ones(len(table), bool) if whole else table.looked_at(every, which)
            found.columns[column] = np.full(len(table), np.nan, np.float32)
            runs.append((make_detector(name, detector.state()), seen, found.columns[column]))
    segment = np.cumsum(table.first)
    last = np.zeros(len(runs), np.int64)
    for row in range(len(table)):
        picture = small_picture(pictures[row])
        for place, (detector, seen, values) in enumerate(runs):
            if not seen[row]:
                continue
            if segment[row] != last[place]:
                detector.reset()
                last[place] = segment[row]
            values[row] = detector.compare(int(table.number[row]), picture).value
        if row % 64 == 0 or row + 1 == len(table):
            report(row + 1, len(table))


def _ways(table: ScoreTable) -> Iterator[tuple[int, Which]]:
    """How frames may be looked at: every k-th of all, and of fewer where to decode these is cheaper."""
    for every in EVERY:
        yield every, "all"
    ways: tuple[Which, ...] = ("nonref", "nonkey")
    for which in ways:
        if table.costs[f"decode:{which}"] < _WORTH * table.costs["decode:all"]:
            for every in _SPARSE:
                yield every, which


def _cost(pictures: Array, detector: DifferenceDetector) -> float:
    """CPU seconds a frame."""
    count = min(_MEASURED, len(pictures))
    detector.reset()
    began = time.thread_time()
    for row in range(count):
        detector.step(row, pictures[row])
    spent = time.thread_time() - began
    detector.reset()
    return spent / count
