"""Compares two labellings of a video in windows of 30 frames: rates of errors with intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LEAST_POSITIVE",
    "WINDOW_FRAMES",
    "Accuracy",
    "Rate",
    "accuracy",
    "changes",
    "clopper_pearson",
    "window_labels",
]

WINDOW_FRAMES = 30
"""Frames in a window."""

LEAST_POSITIVE = 28
"""A window is positive when at least this many of its frames are."""

_HALVINGS = 60  # of an interval of rates: the rest is below 1e-18


@dataclass(frozen=True)
class Rate:
    """A share of errors with its exact interval.

    Attributes:
        wrong: how many are wrong.
        of: how many there are.
        low: lower end of the Clopper-Pearson interval, 0 to 1.
        high: upper end of it.
    """

    wrong: int
    of: int
    low: float
    high: float

    @classmethod
    def of_counts(cls, wrong: int, of: int, confidence: float) -> Rate:
        """The rate and its interval at this confidence."""
        return cls(wrong, of, *clopper_pearson(wrong, of, confidence))

    @property
    def value(self) -> float | None:
        """The share, or None of nothing."""
        return self.wrong / self.of if self.of else None


@dataclass(frozen=True)
class Accuracy:
    """How far a labelling agrees with the true one.

    Attributes:
        fn: true positive windows that are labelled negative, of all true positive windows.
        fp: true negative windows that are labelled positive, of all true negative windows.
        frames_fn: the same, counted in frames.
        frames_fp: the same, counted in frames.
        windows: windows compared.
        left_out: frames that are in no whole window; they count as frames.
        changes: changes of the true label from one frame to the next. Neighbouring windows are alike, so
            this says more than ``windows`` on how much was seen.
        events_fn: runs of true positive windows that have an error.
        events_fp: runs of true negative windows that have one.
        confidence: that of the intervals.
    """

    fn: Rate
    fp: Rate
    frames_fn: Rate
    frames_fp: Rate
    windows: int
    left_out: int
    changes: int
    events_fn: int
    events_fp: int
    confidence: float

    @property
    def agreement(self) -> float | None:
        """Share of windows with equal labels, or None of no windows."""
        return 1 - (self.fn.wrong + self.fp.wrong) / self.windows if self.windows else None


def window_labels(labels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The label of each whole window.

    The last frames of a video that fill no window are left out, so a clip of fewer than 30 frames has none.

    Args:
        labels: label of each frame, [n].

    Returns:
        [n // 30], True where at least 28 frames of the window are.
    """
    whole = len(labels) // WINDOW_FRAMES
    counts = np.asarray(labels[: whole * WINDOW_FRAMES]).reshape(whole, WINDOW_FRAMES).sum(axis=1)
    return np.asarray(counts >= LEAST_POSITIVE)


def changes(labels: NDArray[np.bool_]) -> int:
    """How often the label changes from one to the next."""
    return int(np.count_nonzero(labels[1:] != labels[:-1]))


def accuracy(
    labels: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    *,
    confidence: float = 0.95,
    windows: NDArray[np.int64] | None = None,
) -> Accuracy:
    """Compare labels of frames with the true ones.

    The intervals take windows (or frames) for independent of each other. Errors of one event come together,
    so they are too narrow when events last longer than a window; `cpuserve.video.guarantee` counts events.

    Args:
        labels: label of each frame, [n].
        truth: true label of each frame, [n].
        confidence: of the intervals, two-sided.
        windows: window of each frame, [n], ascending, where some frames are missing. A window counts when all
            of its 30 frames are there. Without it frame 0 begins the first.

    Raises:
        ValueError: the two are not equally long, or there is no frame.
    """
    if len(labels) != len(truth) or not len(truth):
        raise ValueError(f"{len(labels)} labels cannot be compared with {len(truth)} true ones")
    labels, truth = np.asarray(labels, bool), np.asarray(truth, bool)
    kept = np.arange(len(truth)) < len(truth) // WINDOW_FRAMES * WINDOW_FRAMES
    if windows is not None:
        _, place, count = np.unique(windows, return_inverse=True, return_counts=True)
        kept = count[place] == WINDOW_FRAMES
    found, wanted = window_labels(labels[kept]), window_labels(truth[kept])
    missed, invented = wanted & ~found, ~wanted & found
    run = np.concatenate([[0], np.cumsum(wanted[1:] != wanted[:-1])]) if len(wanted) else wanted
    return Accuracy(
        fn=Rate.of_counts(int(missed.sum()), int(wanted.sum()), confidence),
        fp=Rate.of_counts(int(invented.sum()), int((~wanted).sum()), confidence),
        frames_fn=Rate.of_counts(int((truth & ~labels).sum()), int(truth.sum()), confidence),
        frames_fp=Rate.of_counts(int((~truth & labels).sum()), int((~truth).sum()), confidence),
        windows=len(wanted),
        left_out=int((~kept).sum()),
        changes=changes(truth),
        events_fn=len(np.unique(run[missed])),
        events_fp=len(np.unique(run[invented])),
        confidence=confidence,
    )


def clopper_pearson(wrong: int, of: int, confidence: float) -> tuple[float, float]:
    """The exact two-sided interval of a binomial share.

    Args:
        wrong: successes.
        of: trials; of none, the interval is 0 to 1.
        confidence: 0 to 1.

    Raises:
        ValueError: more successes than trials, or a confidence outside 0 to 1.
    """
    if not 0 <= wrong <= of:
        raise ValueError(f"{wrong} of {of} is no share")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} is not between 0 and 1")
    tail = (1 - confidence) / 2
    # P(X >= wrong) = tail at the lower end, P(X <= wrong) = tail at the upper one
    low = 0.0 if wrong == 0 else 1 - _upper(of - wrong, of, tail)
    high = 1.0 if wrong == of else _upper(wrong, of, tail)
    return low, high


def _upper(wrong: int, of: int, tail: float) -> float:
    """The share at which at most ``wrong`` of ``of`` has this probability."""
    counts = np.arange(wrong + 1)
    logs = np.array([math.lgamma(k + 1) + math.lgamma(of - k + 1) for k in counts])
    choices = math.lgamma(of + 1) - logs
    low, high = wrong / of, 1.0
    for _ in range(_HALVINGS):
        share = (low + high) / 2
        if share in (low, high):
            break
        terms = choices + counts * math.log(share) + (of - counts) * math.log1p(-share)
        most = float(terms.max())
        log_below = most + math.log(float(np.exp(terms - most).sum()))
        low, high = (share, high) if log_below > math.log(tail) else (low, share)
    return high
