"""Labels of the user's own: the objects of each frame in a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cpuserve.errors import UsageError
from cpuserve.serving.engine import Array
from cpuserve.video.query import Query

__all__ = ["OwnLabels", "read_labels"]

_COLUMNS = ("frame", "object_name", "confidence", "xmin", "ymin", "xmax", "ymax")
_LIKE = "write lines such as 12,car,0.9,10,20,110,90, or 12,,,,,, for a frame without objects"


@dataclass(frozen=True)
class OwnLabels:
    """The objects of the frames of one video.

    Attributes:
        path: of the file.
        objects: by frame: entries like those of a detector's answer, ``box`` is None where none was given.
        every_frame: whether frames that are not named have no objects. If the file names frames without
            objects, those that it does not name are not labelled.
    """

    path: Path
    objects: dict[int, list[dict[str, Any]]]
    every_frame: bool

    def labels(self, query: Query, numbers: Array, width: int, height: int) -> tuple[Array, Array, Array]:
        """Labels by frame: label bool [n], score f32 [n], labelled bool [n].

        Args:
            query: what is asked.
            numbers: of the frames, [n].
            width: of the video, in pixels.
            height: likewise.

        Raises:
            UsageError: the query has a region, and an object has no box.
        """
        label, score = np.zeros(len(numbers), bool), np.zeros(len(numbers), np.float32)
        labelled = np.ones(len(numbers), bool)
        for row, number in enumerate(numbers.tolist()):
            if number not in self.objects:
                labelled[row] = self.every_frame
                continue
            entries = self.objects[number]
            if query.region is not None and any(entry["box"] is None for entry in entries):
                raise UsageError(
                    f"query {query.text!r} asks for a region, and frame {number} of {self.path} has an "
                    "object without a box"
                )
            label[row], score[row] = query.present({"detections": entries}, width, height)
        return label, score, labelled


def read_labels(path: Path) -> OwnLabels:
    """Reads ``frame,object_name,confidence,xmin,ymin,xmax,ymax``, pixels of the whole frame.

    A line without an object name says that the frame has no object. Columns after the name may be empty: the
    confidence is 1 then, and the box is unknown. A heading and lines that begin with # are passed over.

    Raises:
        UsageError: the file cannot be read, or a line is none.
    """
    try:
        content = path.read_text("utf-8-sig")
    except OSError as error:
        raise UsageError(f"the labels {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the labels {path} are no text: {error.reason}") from error
    objects: dict[int, list[dict[str, Any]]] = {}
    named_empty = False
    for place, cells in _lines(content):
        frame, entry = _entry(path, place, cells)
        there = objects.setdefault(frame, [])
        if entry is None:
            named_empty = True
        else:
            there.append(entry)
    if not objects:
        raise UsageError(f"the labels {path} have no line: {_LIKE}")
    return OwnLabels(path, objects, every_frame=not named_empty)


def _lines(content: str) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each line that says something."""
    for place, cells in enumerate(csv.reader(io.StringIO(content)), 1):
        plain = [cell.strip() for cell in cells]
        if any(plain) and not plain[0].startswith("#") and plain[0] != _COLUMNS[0]:
            yield place, plain


def _entry(path: Path, place: int, cells: list[str]) -> tuple[int, dict[str, Any] | None]:
    if len(cells) > len(_COLUMNS):
        raise UsageError(f"line {place} of {path} has {len(cells)} columns, not {len(_COLUMNS)}: {_LIKE}")
    frame, name, confidence, *corners = cells + [""] * (len(_COLUMNS) - len(cells))
    try:
        number = int(frame)
        score = float(confidence) if confidence else 1.0
        box = [float(corner) for corner in corners] if any(corners) else None
    except ValueError as error:
        raise UsageError(f"line {place} of {path} is {','.join(cells)!r:.80}: {_LIKE}") from error
    if number < 0 or not 0 <= score <= 1:
        raise UsageError(f"line {place} of {path}: frames begin with 0, and a confidence is from 0 to 1")
    if box is not None and not (box[0] < box[2] and box[1] < box[3]):
        raise UsageError(f"line {place} of {path}: a box goes from xmin, ymin to a larger xmax, ymax")
    return number, {"label": name, "probability": score, "box": box} if name else None
