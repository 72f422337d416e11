"""The rows and columns of a table of answers: one row for each thing that was found in a frame."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["COLUMNS", "Column", "rows_of"]

Row = dict[str, Any]


class Column(NamedTuple):
    """A column of CSV and Parquet files.

    Attributes:
        kind: type of its values, as Parquet names it.
        meaning: what they say.
    """

    kind: str
    meaning: str


COLUMNS: Mapping[str, Column] = {
    "video": Column("string", "the video, as it was named"),
    "frame": Column("int64", "number of the frame, from 0 on"),
    "pts": Column("int64", "its time in units of the file's time base"),
    "time_s": Column("double", "its time in seconds from the first frame"),
    "count": Column("int32", "how many things were found in the frame; each has a row"),
    "index": Column("int32", "place of this one among them, from 0 on; empty where nothing was found"),
    "class_id": Column("int32", "number of the class"),
    "label": Column("string", "name of the class, or the text that was read"),
    "score": Column("double", "probability of the class or text"),
    "area": Column("double", "share of the picture that a class of a segmentation covers"),
    "left": Column("double", "left edge of the box, in pixels of the frame"),
    "top": Column("double", "upper edge of the box"),
    "right": Column("double", "right edge of the box"),
    "bottom": Column("double", "lower edge of the box"),
    "x": Column("double", "a keypoint, pixels from the left"),
    "y": Column("double", "the same, pixels from the top"),
    "track_id": Column("int64", "number of the track the box belongs to (with --track)"),
    "zones": Column("string", "names of the zones the box is in, with ; between them (with --zones)"),
}
"""The columns, the same for every model."""

_LISTS = ("detections", "predictions", "classes", "keypoints")
_BOX = ("left", "top", "right", "bottom")


def rows_of(line: Mapping[str, Any]) -> Iterator[Row]:
    """The rows of a frame; a frame in which nothing was found has one, with ``count`` 0.

    Args:
        line: the JSON line of the frame.

    Yields:
        A value for each of `COLUMNS`, None where there is none; of what is no number it is None, as in JSON.
    """
    head = {name: line[name] for name in ("video", "frame", "pts", "time_s")}
    found = next((line[name] for name in _LISTS if name in line), None)
    if found is None:
        found = [{"label": line["text"], "probability": line["probability"]}] if "text" in line else []
    empty = dict.fromkeys(COLUMNS) | head | {"count": len(found)}
    if not found:
        yield empty
    for index, thing in enumerate(found):
        row = empty | {"index": index, "class_id": thing.get("class_id"), "label": thing["label"]}
        row |= {"score": _number(thing.get("probability")), "area": _number(thing.get("area"))}
        row |= zip(_BOX, map(_number, thing["box"]), strict=True) if "box" in thing else ()
        row |= zip("xy", map(_number, thing["point"]), strict=True) if "point" in thing else ()
        row["track_id"] = thing.get("track_id")
        row["zones"] = ";".join(thing["zones"]) if "zones" in thing else None
        yield row


def _number(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None
