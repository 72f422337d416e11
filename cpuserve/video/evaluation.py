"""Compares the labels of a run with true ones, frame by frame, from their files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from cpuserve.errors import UsageError
from cpuserve.video.cascade_choice import DecidedBy
from cpuserve.video.score_table import ScoreTable
from cpuserve.video.windows import WINDOW_FRAMES, Accuracy, accuracy

__all__ = ["Evaluation", "StageErrors", "evaluate"]

_WORDS = {"0": False, "1": True, "false": False, "true": True}
_STAGES = tuple(stage.name.lower() for stage in DecidedBy)
_MOST_DIGITS = 13


@dataclass(frozen=True)
class StageErrors:
    """What one stage decided.

    Attributes:
        stage: its name.
        frames: frames it decided, of those with a true label.
        missed: those it labelled negative and are positive.
        invented: those it labelled positive and are negative.
    """

    stage: str
    frames: int
    missed: int
    invented: int


@dataclass(frozen=True)
class Evaluation:
    """How good the labels of a run are.

    Attributes:
        accuracy: rates of errors with their intervals.
        frames: frames with both labels.
        only_labels: frames that the true labels leave out.
        only_truth: frames with a true label that the run left out.
        stages: by the stage that decided, where the file of the run says so.
    """

    accuracy: Accuracy
    frames: int
    only_labels: int
    only_truth: int
    stages: tuple[StageErrors, ...]


@dataclass(frozen=True)
class _FrameLabels:
    number: NDArray[np.int64]
    label: NDArray[np.bool_]
    stage: NDArray[np.str_] | None


def evaluate(labels: Path, truth: Path, *, confidence: float = 0.95) -> Evaluation:
    """Compare two files.

    Both are CSV or JSON lines with ``frame`` and ``label`` (0 or 1) of each frame, as `cpuserve video run`
    writes; the true labels may as well be the scores of `cpuserve video train` (``.npz``, ``.parquet``).
    Frames that only one of them has are left out and counted. A window counts when both have all of its
    frames.

    Args:
        labels: file of the run.
        truth: file of the true labels.
        confidence: of the intervals.

    Raises:
        UsageError: a file is none of these, or they have no frame in common; the message names the line.
    """
    found, true = _read(labels), _read(truth)
    both, mine, theirs = np.intersect1d(found.number, true.number, assume_unique=True, return_indices=True)
    if not len(both):
        raise UsageError(f"{labels} and {truth} have no frame in common")
    label, wanted = found.label[mine], true.label[theirs]
    return Evaluation(
        accuracy=accuracy(label, wanted, confidence=confidence, windows=both // WINDOW_FRAMES),
        frames=len(both),
        only_labels=len(found.number) - len(both),
        only_truth=len(true.number) - len(both),
        stages=() if found.stage is None else tuple(_by_stage(found.stage[mine], label, wanted)),
    )


def _by_stage(
    stage: NDArray[np.str_], label: NDArray[np.bool_], truth: NDArray[np.bool_]
) -> Iterator[StageErrors]:
    for name in _STAGES:
        own = stage == name
        if own.any():
            yield StageErrors(
                stage=name,
                frames=int(own.sum()),
                missed=int((own & truth & ~label).sum()),
                invented=int((own & ~truth & label).sum()),
            )


def _read(path: Path) -> _FrameLabels:
    """The labels of a file, by ascending number of the frame."""
    if path.suffix in (".npz", ".parquet"):
        return _of_scores(path)
    if path.suffix not in (".csv", ".jsonl"):
        raise UsageError(f"{path}: labels are read from .csv, .jsonl, .npz or .parquet files")
    numbers, labels, stages = [], [], []
    try:
        for line, row in _rows(path):
            number, label = _row(path, line, row)
            numbers.append(number)
            labels.append(label)
            stages.append(str(row.get("status", "")))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} is no text with labels: {error}") from None
    if not numbers:
        raise UsageError(f"{path} has no labels")
    found, first = np.unique(np.array(numbers, np.int64), return_index=True)
    if len(found) < len(numbers):
        twice = next(iter(sorted(set(range(len(numbers))) - set(first.tolist()))))
        raise UsageError(f"{path} has frame {numbers[twice]} twice")
    known = set(stages) <= set(_STAGES)
    return _FrameLabels(found, np.array(labels, bool)[first], np.array(stages)[first] if known else None)


def _of_scores(path: Path) -> _FrameLabels:
    table = ScoreTable.load(path)
    if len(set(np.asarray(table.video).tolist())) > 1:
        raise UsageError(
            f"{path} has the scores of {len(table.videos)} clips: their frames have the same numbers"
        )
    rows = np.flatnonzero(table.labelled)
    if not len(rows):
        raise UsageError(f"{path} has no labels")
    return _FrameLabels(np.asarray(table.number)[rows], np.asarray(table.label, bool)[rows], None)


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The lines of a file as dictionaries, with their numbers."""
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            reader = csv.DictReader(_without_hash(file))
            missing = {"frame", "label"} - set(reader.fieldnames or ())
            if missing:
                raise UsageError(f"{path} has no column {' and no column '.join(sorted(missing))}")
            for row in reader:
                yield reader.line_num, row
            return
        for line, text in enumerate(file, 1):
            try:
                row = orjson.loads(text)
            except orjson.JSONDecodeError as error:
                raise UsageError(f"{path}, line {line}, is no JSON: {error}") from None
            if not isinstance(row, dict):
                raise UsageError(f"{path}, line {line}, is no JSON object")
            yield line, row


def _without_hash(lines: Iterable[str]) -> Iterator[str]:
    """The lines of a CSV file; the first may begin with ``#``, as in those of NoScope."""
    for place, line in enumerate(lines):
        yield line.removeprefix("#").lstrip() if place == 0 else line


def _row(path: Path, line: int, row: Mapping[str, Any]) -> tuple[int, bool]:
    """Number and label of a frame."""
    frame, label = row.get("frame"), row.get("label")
    digits = str(frame).strip()  # True and 1.5 are none
    number = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < _MOST_DIGITS else -1
    if number < 0:
        raise UsageError(f"{path}, line {line}: {frame!r} is no number of a frame")
    word = str(label).strip().lower()
    if word not in _WORDS:
        raise UsageError(f"{path}, line {line}: the label of frame {number} is 0 or 1, not {label!r}")
    return number, _WORDS[word]
