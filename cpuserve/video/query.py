"""The question that is asked of every frame: is an object of these classes there, in this region?"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cpuserve.errors import UsageError
from cpuserve.serving.decode import Pixels
from cpuserve.video.region import Region

__all__ = ["MIN_AREA", "MIN_SCORE", "Query", "check_classes"]

MIN_SCORE = 0.4
MIN_AREA = 0.01
_SHOWN_LABELS = 30


@dataclass(frozen=True)
class Query:
    """Classes, and the region in which one of them has to be.

    Attributes:
        text: as the user wrote it, ``car,truck@0,0.55,1,1``.
        classes: names of the classes; one of them is enough.
        region: None for the whole picture.
        min_score: boxes with a lower probability do not count. Models leave out weak boxes by a threshold of
            their own before.
        min_area: share of the region that the classes have to cover in the answer of a segmenter.
    """

    text: str
    classes: tuple[str, ...]
    region: Region | None = None
    min_score: float = MIN_SCORE
    min_area: float = MIN_AREA

    def __post_init__(self) -> None:
        for name, value in (("min_score", self.min_score), ("min_area", self.min_area)):
            if not 0 < value <= 1:
                raise UsageError(f"{name} is {value:g}: it has to be above 0 and at most 1")

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        labels: Collection[str] = (),
        regions: Mapping[str, Region] | None = None,
        min_score: float = MIN_SCORE,
        min_area: float = MIN_AREA,
    ) -> Query:
        """Reads ``CLASS[,CLASS...][@REGION]``; REGION is ``left,top,right,bottom`` or a name.

        Args:
            text: for instance ``car``, ``car,truck,bus``, ``car@0,0.55,1,1`` or ``person@door``.
            labels: the model's names of classes; empty if they are not known: classes are not checked.
            regions: what names of regions stand for; None if the user gave no file of regions.
            min_score: see the attribute.
            min_area: see the attribute.

        Raises:
            UsageError: there is no class, the model does not know one, or the region is none.
        """
        names, at, place = text.rpartition("@") if "@" in text and text not in labels else (text, "", "")
        classes = [names] if names in labels else [name.strip() for name in names.split(",")]
        if not all(classes):
            raise UsageError(f"query {text!r} names no class: write CLASS[,CLASS...][@REGION]")
        known = check_classes(classes, labels)
        region = _region(text, place.strip(), regions) if at else None
        return cls(text, tuple(dict.fromkeys(known)), region, min_score, min_area)

    @property
    def needs_mask(self) -> bool:
        """Whether the areas of a segmenter do not suffice: the class of each pixel is needed."""
        return self.region is not None

    def present(
        self, answer: Mapping[str, Any], width: int, height: int, mask: Pixels | None = None
    ) -> tuple[bool, float]:
        """Whether the answer of the reference says that the object is there, and how strongly, 0 to 1.

        A box counts when the middle of its bottom edge lies in the region. The answer of a segmenter counts
        by the share of the region that the classes cover, and needs the mask where there is a region. The
        answer of a classifier counts by its best class.

        Args:
            answer: what ``/predictions/MODEL`` answers.
            width: of the picture that boxes are measured in, in pixels.
            height: likewise.
            mask: u8 [h, w], class of each pixel, of a segmenter; `SeenFrame` has it.

        Raises:
            UsageError: this kind of answer says nothing about the query.
        """
        if "detections" in answer:
            return self._by_boxes(answer["detections"], width, height)
        if "classes" in answer:
            return self._by_area(answer["classes"], mask)
        if "predictions" in answer:
            return self._by_class(answer["predictions"], several=bool(answer.get("multilabel")))
        kind = ", ".join(key for key in answer if key not in ("model", "version")) or "nothing"
        raise UsageError(
            f"query {self.text!r} needs a model that answers boxes, areas or classes; this one answers {kind}"
        )

    def _by_boxes(self, boxes: Sequence[Mapping[str, Any]], width: int, height: int) -> tuple[bool, float]:
        best = 0.0
        for box in boxes:
            if box["label"] not in self.classes or box["probability"] <= best:
                continue
            if self.region is not None:
                left, _top, right, bottom = box["box"]
                if not self.region.contains((left + right) / 2 / width, bottom / height):
                    continue
            best = float(box["probability"])
        return best >= self.min_score, best

    def _by_area(self, classes: Sequence[Mapping[str, Any]], mask: Pixels | None) -> tuple[bool, float]:
        found = [entry for entry in classes if entry["label"] in self.classes]
        if self.region is None:
            area = sum(entry["area"] for entry in found)
        else:
            if mask is None:
                raise UsageError(
                    f"query {self.text!r} asks for a region, and this answer of a segmenter has areas of the "
                    "whole picture alone: leave the region out"
                )
            seen = mask[self.region.mask(*mask.shape).astype(bool)]
            area = float(np.isin(seen, [entry["class_id"] for entry in found]).mean()) if seen.size else 0.0
        return area >= self.min_area, min(float(area), 1.0)

    def _by_class(self, entries: Sequence[Mapping[str, Any]], *, several: bool) -> tuple[bool, float]:
        if self.region is not None:
            raise UsageError(
                f"query {self.text!r} asks for a region, and a classifier answers for the whole picture: "
                "leave the region out, or take a detector"
            )
        found = max(
            (entry["probability"] for entry in entries if entry["label"] in self.classes), default=0.0
        )
        if several:
            return found >= self.min_score, float(found)
        return bool(entries) and entries[0]["label"] in self.classes, float(found)


def check_classes(classes: Sequence[str], labels: Collection[str]) -> list[str]:
    """The classes as the model writes them, which is often not the case that users write.

    Args:
        classes: as the user wrote them.
        labels: of the model; empty: they are not known, and classes stay as they are.

    Raises:
        UsageError: the model has no such class.
    """
    if not labels:
        return list(classes)
    by_plain = {label.casefold(): label for label in reversed(list(labels))}
    found = []
    for name in classes:
        label = name if name in labels else by_plain.get(name.casefold())
        if label is None:
            near = difflib.get_close_matches(name.casefold(), by_plain, n=3, cutoff=0.6)
            meant = f"did you mean {', '.join(by_plain[entry] for entry in near)}? " if near else ""
            some = [label for label in labels if label]
            rest = f" and {len(some) - _SHOWN_LABELS} more" if len(some) > _SHOWN_LABELS else ""
            raise UsageError(
                f"the model has no class {name!r}: {meant}It has {', '.join(some[:_SHOWN_LABELS])}{rest}"
            )
        found.append(label)
    return found


def _region(text: str, place: str, regions: Mapping[str, Region] | None) -> Region:
    try:
        numbers = [float(part) for part in place.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 4:
        return Region.rectangle(place, numbers)
    if numbers or not place:
        raise UsageError(
            f"the region of query {text!r} has to be left,top,right,bottom as shares from 0 to 1, as in "
            "car@0,0.55,1,1, or a name in the file of --regions"
        )
    if regions is None:
        raise UsageError(f"query {text!r} names the region {place!r}: give the file that has it by --regions")
    if place not in regions:
        raise UsageError(
            f"the file of --regions has no region {place!r}; it has {', '.join(regions) or 'none at all'}"
        )
    return regions[place]
