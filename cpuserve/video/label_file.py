"""The file of a run with a line a frame: who decided, by which scores, and the label. CSV or JSON lines."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self

import orjson

from cpuserve.errors import CpuserveError, UsageError
from cpuserve.video.cascade_choice import DecidedBy
from cpuserve.video.frame_labels import LabelledFrame

__all__ = ["LABEL_COLUMNS", "LabelFile", "read_labels"]

LABEL_COLUMNS = {
    "frame": "number of the frame, from 0",
    "pts": "its time in units of the file's time base",
    "time_s": "its time in seconds",
    "status": "who decided: skipped, packets, difference, specialised or reference",
    "difference": "how much it differs from the frame it was compared with; empty: not compared",
    "specialised": "probability of the specialised CNN that the object is there; empty: not asked",
    "packets": "the same of the sizes of packets",
    "reference": "the same of the reference, which also answers audited frames; empty: not asked",
    "audit": "probability with which it was audited; empty: it was not",
    "truth": "1 or 0: what the reference says; empty: not asked",
    "label": "1 or 0: whether the object is there",
}
"""What each column says."""

_SUFFIXES = (".csv", ".jsonl")
_STATUS = {stage.name.lower(): stage for stage in DecidedBy}
_SCORES = ("difference", "specialised", "packets", "reference")
_CHUNK = 1 << 20


class LabelFile:
    """Writes labelled frames as they come, so that a killed run can be continued. A context manager.

    Args:
        path: the file, ``.csv`` or ``.jsonl``.
        keep: how many of its lines are kept; the rest is cut off. 0 begins anew.

    Raises:
        UsageError: the name has another ending.
        CpuserveError: it cannot be written.
    """

    def __init__(self, path: Path, keep: int = 0) -> None:
        self._path = path
        self._csv = _is_csv(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = path.open("r+b" if keep else "wb")
            if keep:
                _cut(self._file, keep + self._csv)
            elif self._csv:
                self._file.write((",".join(LABEL_COLUMNS) + "\n").encode())
        except OSError as error:
            raise _cannot_write(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._file.close()
        except OSError as error:
            raise _cannot_write(self._path, error) from error

    def append(self, frame: LabelledFrame, pts: int, time_s: float) -> None:
        """Write a frame.

        Raises:
            CpuserveError: it cannot be written, as on a full disk.
        """
        line: dict[str, Any] = {
            "frame": frame.number,
            "pts": pts,
            "time_s": round(time_s, 6),
            "status": frame.stage.name.lower(),
            **{name: _number(getattr(frame, name)) for name in _SCORES},
            "audit": frame.audit or None,
            "truth": None if frame.truth is None else int(frame.truth),
            "label": int(frame.label),
        }
        try:
            if self._csv:
                text = ",".join("" if value is None else str(value) for value in line.values()) + "\n"
                self._file.write(text.encode())
            else:
                self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        except OSError as error:
            raise _cannot_write(self._path, error) from error


def read_labels(path: Path) -> Iterator[LabelledFrame]:
    """The frames of a file; a last line that was not written to its end is left out.

    Raises:
        UsageError: it cannot be read, or is no such file; the message names the line.
    """
    as_csv = _is_csv(path)
    try:
        with path.open("rb") as file:
            names: list[str] = []
            for number, text in enumerate(file, 1):
                if not text.endswith(b"\n"):
                    return
                try:
                    if not as_csv:
                        yield _frame(orjson.loads(text))
                    elif number > 1:
                        values = next(csv.reader(io.StringIO(text.decode())))
                        yield _frame(dict(zip(names, values, strict=True)))
                    else:
                        names = next(csv.reader(io.StringIO(text.decode())))
                except (ValueError, KeyError, TypeError) as error:
                    raise UsageError(f"{path}, line {number}, is no labelled frame: {error!r}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def _frame(line: dict[str, Any]) -> LabelledFrame:
    truth = line["truth"]
    return LabelledFrame(
        number=int(line["frame"]),
        stage=_STATUS[line["status"]],
        label=_flag(line["label"]),
        truth=None if truth in ("", None) else _flag(truth),
        audit=float(line["audit"] or 0),
        **{name: math.nan if line[name] in ("", None) else float(line[name]) for name in _SCORES},
    )


def _flag(value: Any) -> bool:
    if value not in (0, 1, "0", "1"):
        raise ValueError(f"{value!r} is neither 0 nor 1")
    return int(value) == 1


def _number(value: float) -> float | None:
    """A score with as many digits as mean something; None of what is no number."""
    return float(f"{value:.9g}") if math.isfinite(value) else None


def _is_csv(path: Path) -> bool:
    if path.suffix not in _SUFFIXES:
        raise UsageError(f"labels are written to files {' or '.join(_SUFFIXES)}, not to {path.name}")
    return path.suffix == ".csv"


def _cut(file: BinaryIO, lines: int) -> None:
    """Keep that many lines of a file, and go to its end."""
    end = sum(len(text) for _, text in zip(range(lines), file, strict=False))
    file.seek(end)
    os.ftruncate(file.fileno(), end)


def _cannot_write(path: Path, error: OSError) -> CpuserveError:
    return CpuserveError(f"{path} cannot be written: {error.strerror or error}")
