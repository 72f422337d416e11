"""Reads a list of pictures and their labels from a folder, a CSV or COCO's JSON."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpuserve.errors import UsageError
from cpuserve.serving.picture_files import PICTURE_ENDINGS, no_picture

__all__ = ["Box", "LabelledPicture", "evenly_chosen", "pictures_checksum", "read_pictures"]

_CORNERS = ("x1", "y1", "x2", "y2")


@dataclass(frozen=True)
class Box:
    """One true object in a picture.

    Attributes:
        corners: x1, y1, x2, y2 in pixels of the upright picture.
        class_id: its class.
        crowd: the box holds several objects; detections of it count as neither right nor wrong (COCO's
            ``iscrowd``).
    """

    corners: tuple[float, float, float, float]
    class_id: int
    crowd: bool = False


@dataclass(frozen=True)
class LabelledPicture:
    """A picture and its labels.

    Attributes:
        file: its file.
        classes: its true class; several where classes share a name. None: unknown.
        mask: a picture of class ids; pixels of 255 do not count. None: unknown.
        boxes: its true objects. None: unknown.
    """

    file: Path
    classes: frozenset[int] | None = None
    mask: Path | None = None
    boxes: tuple[Box, ...] | None = None


def read_pictures(place: Path, labels: Sequence[str]) -> list[LabelledPicture]:
    """Reads a set of pictures.

    A folder of folders: each is named after the class of its pictures. A folder of pictures: a picture whose
    name is that of a class is of that class, of others the class is unknown. A CSV with a header: ``file``
    and either ``label``, ``mask``, or ``x1,y1,x2,y2,class`` with a line for every object, or nothing more. A
    ``.json``: COCO's instances. Files are named relative to the CSV or JSON; a class by its name or number.

    Args:
        place: the folder, CSV or JSON.
        labels: of the model.

    Raises:
        UsageError: it cannot be read, holds no picture, or names a class that the model does not have.
    """
    try:
        if place.is_dir():
            found = _from_folder(place, labels)
        elif place.suffix.lower() == ".json":
            found = _from_coco(place, labels)
        else:
            found = _from_csv(place, labels)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{place} cannot be read: {error}") from error
    if not found:
        raise no_picture(place)
    return found


def evenly_chosen(samples: Sequence[LabelledPicture], most: int) -> list[LabelledPicture]:
    """At most ``most`` of the pictures, evenly chosen from first to last."""
    if len(samples) <= most:
        return list(samples)
    return [samples[index * len(samples) // most] for index in range(most)]


def pictures_checksum(files: Iterable[Path]) -> str:
    """A checksum of a set of pictures; file names do not matter.

    The same as ``sha256sum FILES | cut -c1-64 | sort | sha256sum``.
    """
    each = sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    return hashlib.sha256("".join(f"{one}\n" for one in each).encode()).hexdigest()


def _from_folder(folder: Path, labels: Sequence[str]) -> list[LabelledPicture]:
    names = _Names(labels)
    files = sorted(
        file for file in folder.rglob("*") if file.is_file() and file.suffix.lower() in PICTURE_ENDINGS
    )
    folders = sorted({file.relative_to(folder).parts[0] for file in files if file.parent != folder})
    if not folders or any(file.parent == folder for file in files):
        return [LabelledPicture(file, names.named(file.stem) or None) for file in files]
    strange = [name for name in folders if not names.find(name)]
    if len(strange) == len(folders):
        return [LabelledPicture(file) for file in files]
    if strange:
        raise UsageError(f"{folder}: of its folders {strange[0]!r} is named after no class of the model")
    return [LabelledPicture(file, names.find(file.relative_to(folder).parts[0])) for file in files]


def _from_csv(file: Path, labels: Sequence[str]) -> list[LabelledPicture]:
    with file.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        columns = set(reader.fieldnames or ())
        rows = list(reader)
    if "file" not in columns:
        raise UsageError(f"{file} has no column `file` in its first line")
    names = _Names(labels)
    if columns.issuperset(("class", *_CORNERS)):
        boxes: dict[str, list[Box]] = {}
        for row in rows:
            there = boxes.setdefault(row["file"], [])
            if any(row[key] for key in ("class", *_CORNERS)):  # a line with a file alone: nothing is in it
                there.append(_box([row[key] for key in _CORNERS], names.one(row["class"], file), file))
        return [LabelledPicture(file.parent / name, boxes=tuple(found)) for name, found in boxes.items()]
    if "label" in columns:
        return [LabelledPicture(file.parent / row["file"], names.must(row["label"], file)) for row in rows]
    if "mask" in columns:
        return [LabelledPicture(file.parent / row["file"], mask=file.parent / row["mask"]) for row in rows]
    return [LabelledPicture(file.parent / row["file"]) for row in rows]


def _from_coco(file: Path, labels: Sequence[str]) -> list[LabelledPicture]:
    names = _Names(labels)
    try:
        document = json.loads(file.read_text(encoding="utf-8-sig"))
        classes = {entry["id"]: names.one(entry["name"], file) for entry in document["categories"]}
        boxes: dict[Any, list[Box]] = {entry["id"]: [] for entry in document["images"]}
        for found in document["annotations"]:
            x, y, width, height = found["bbox"]
            crowd = bool(found.get("iscrowd"))
            box = _box((x, y, x + width, y + height), classes[found["category_id"]], file, crowd=crowd)
            boxes[found["image_id"]].append(box)
        return [
            LabelledPicture(file.parent / entry["file_name"], boxes=tuple(boxes[entry["id"]]))
            for entry in document["images"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} is not COCO's JSON of objects in images: {error!r}") from error


def _box(corners: Sequence[Any], class_id: int, file: Path, *, crowd: bool = False) -> Box:
    try:
        x1, y1, x2, y2 = (float(value) for value in corners)
    except (TypeError, ValueError):
        raise UsageError(f"{file}: {list(corners)} are not four numbers x1, y1, x2, y2") from None
    if not (math.isfinite(x1 + y1 + x2 + y2) and x1 < x2 and y1 < y2):
        raise UsageError(f"{file}: the box {list(corners)} must have x1 < x2 and y1 < y2, in pixels")
    return Box((x1, y1, x2, y2), class_id, crowd)


class _Names:
    """Finds classes by name or number; case, `_` and `-` do not matter."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._known: dict[str, set[int]] = {}
        for index, label in enumerate(labels):
            self._known.setdefault(_plain(label), set()).add(index)

    def named(self, text: str) -> frozenset[int]:
        """The classes of a name; empty when there is none."""
        return frozenset(self._known.get(_plain(text), ()))

    def find(self, text: str) -> frozenset[int]:
        """The classes of a name, else the class of a number; empty when there is none."""
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
        there = 0 <= number < (len(self._labels) or 10**9)
        return self.named(text) or frozenset((number,) if there else ())

    def must(self, text: str, file: Path) -> frozenset[int]:
        """Like `find`, but a missing class is an error."""
        if found := self.find(text):
            return found
        raise UsageError(
            f"{file}: the model has no class {text[:80]!r}; it has {len(self._labels)} labels, "
            f"{', '.join(self._labels[:3]) or 'none'}, ..., and takes their numbers too"
        )

    def one(self, text: str, file: Path) -> int:
        """The first class of a name or number."""
        return min(self.must(str(text), file))


def _plain(text: str) -> str:
    return re.sub(r"[\s_-]+", " ", text).strip().casefold()
