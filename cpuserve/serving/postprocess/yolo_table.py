"""Reads the table of boxes that Ultralytics' and YOLOv5's exporters make, whichever way it is laid out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from cpuserve.serving.engine import Array, Port
from cpuserve.serving.postprocess.detection import Boxes, best_of_each
from cpuserve.serving.postprocess.found_boxes import corners_of

__all__ = ["PoseTable", "TurnedTable", "YoloTable", "grid_boxes"]

_SHARE = 2.0  # middles that are all smaller are shares of the input: the cells of a table cover all of it
_STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class YoloTable:
    """How a table [4 + C, boxes] is laid out.

    Attributes:
        boxes: rows of the table.
        channels: numbers a box.
        classes: how many of them are class scores.
        rows_first: it is [boxes, channels].
        objectness: a score for "anything" stands between box and classes, as in YOLOv5 and YOLOv7.
        width: of the input, pixels.
        height: of the input, pixels.
        unit: of the boxes: "pixels", "share", or empty: the numbers are asked.
    """

    boxes: int
    channels: int
    classes: int
    rows_first: bool
    objectness: bool
    width: int
    height: int
    unit: str = ""

    @classmethod
    def of(
        cls, port: Port, labels: int, width: int, height: int, *, more: int | None = 0, unit: str = ""
    ) -> YoloTable:
        """The layout of an output.

        Args:
            port: the output.
            labels: how many class names there are; 0: as many classes as numbers are left.
            width: of the input, pixels.
            height: of the input, pixels.
            more: numbers behind the class scores of each box; None: any.
            unit: of the boxes.

        Raises:
            ValueError: it is no such table, or of another number of classes.
        """
        shape = port.row_shape
        if len(shape) != 2 or -1 in shape or min(shape) < 5:
            raise ValueError(f"YOLO has one output [N, 4 + C, boxes]: this has {_shown(port)}")
        rows_first = shape[0] > shape[1]
        boxes, channels = shape if rows_first else shape[::-1]
        # YOLOv5 and its like have rows first and a score for "anything"; without labels the anchors tell
        anchors = boxes == 3 * grid_boxes(width, height)
        if rows_first and not labels and not anchors:
            raise ValueError(
                f"only labels tell whether a score for any object is in {_shown(port)}: name them"
            )
        objectness = rows_first and not more and (channels == 5 + labels if labels else anchors)
        classes = labels or channels - 4 - objectness - (more or 0)
        left = channels - 4 - objectness - classes
        if classes < 1 or (left != more if more is not None else left < 0):
            wanted = f"{labels} labels" if labels else "one class or more"
            raise ValueError(
                f"YOLO has {4 + labels if labels else '4 + C'} numbers a box for {wanted}"
                f"{f' and {more} more' if more else ''}: this has {_shown(port)}, {channels} numbers a box"
            )
        return cls(boxes, channels, classes, rows_first, objectness, width, height, unit)

    @property
    def plain(self) -> Port:
        """The output as `table` returns it."""
        return Port(("boxes",), np.dtype(np.float32), (4 + self.classes, self.boxes))

    def table(self, raw: Array) -> Array:
        """The boxes of one row as f32 [4 + C, boxes], in pixels."""
        found = self._upright(raw)[: 4 + self.classes]
        if self.shares(raw):
            found[:4] *= np.array([[self.width], [self.height]] * 2, np.float32)
        return found

    def rest(self, raw: Array) -> Array:
        """What stands behind the class scores, f32 [numbers, boxes]."""
        return self._upright(raw)[4 + self.classes :]

    def shares(self, raw: Array) -> bool:
        """Whether the boxes of a row are shares of the input."""
        if self.unit:
            return self.unit == "share"
        middles = raw[:, :2] if self.rows_first else raw[:2]
        return bool(np.abs(middles).max() <= _SHARE)  # not the sizes: a box may be larger than the input

    def _upright(self, raw: Array) -> Array:
        """[4 + C + more, boxes] in memory of its own."""
        found = np.array(raw.T if self.rows_first else raw, np.float32, order="C")
        if self.objectness:
            found[5:] *= found[4]
            found = np.concatenate([found[:4], found[5:]])
        return found


def grid_boxes(width: int, height: int) -> int:
    """How many boxes a YOLO without anchors has for an input."""
    return sum(-(-width // stride) * -(-height // stride) for stride in _STRIDES)


@dataclass(frozen=True)
class PoseTable:
    """Boxes with keypoints: x, y and a score for each behind the class scores.

    Attributes:
        table: its layout.
        points: keypoints a box.
        numbers: a keypoint's, 3, or 2 without scores.
        confidence: boxes must score more.
        iou: of two boxes that overlap by more, the better stays.
    """

    table: YoloTable
    points: int
    numbers: int
    confidence: float
    iou: float

    def __call__(self, outputs: Sequence[Array]) -> Boxes:
        """The boxes of one row."""
        found, kept = _kept(self.table, outputs[0], self.confidence)
        points = self.table.rest(outputs[0])[:, kept].T.reshape(len(kept), self.points, self.numbers)
        if self.numbers == 2:
            points = np.concatenate([points, np.ones((*points.shape[:2], 1), np.float32)], axis=2)
        if self.table.shares(outputs[0]):
            points = points * np.array([self.table.width, self.table.height, 1], np.float32)
        return best_of_each(found._replace(points=points.astype(np.float32)), self.iou)


@dataclass(frozen=True)
class TurnedTable:
    """Turned boxes: the angle in radians, clockwise, stands behind the class scores.

    Attributes:
        table: its layout.
        confidence: boxes must score more.
        iou: of two boxes of a class that overlap by more, the better stays.
    """

    table: YoloTable
    confidence: float
    iou: float

    def __call__(self, outputs: Sequence[Array]) -> Boxes:
        """The boxes of one row."""
        table = self.table.table(outputs[0])
        scores = table[4:].max(axis=0)
        kept = np.flatnonzero(scores > self.confidence)
        middles, sizes = table[:2, kept].T, table[2:4, kept].T
        angles = self.table.rest(outputs[0])[0, kept]
        classes, scores = table[4:, kept].argmax(axis=0), scores[kept]
        turned = [
            ((float(x), float(y)), (float(w), float(h)), float(np.degrees(angle)))
            for (x, y), (w, h), angle in zip(middles, sizes, angles, strict=True)
        ]
        best: list[int] = []
        for index in np.unique(classes):
            among = np.flatnonzero(classes == index)
            chosen = cv2.dnn.NMSBoxesRotated(
                [turned[at] for at in among], scores[among].tolist(), self.confidence, self.iou
            )
            best += [int(among[at]) for at in np.asarray(chosen, np.intp).reshape(-1)]
        polygons = np.array([cv2.boxPoints(turned[at]) for at in best], np.float32).reshape(-1, 4, 2)
        corners = np.concatenate([polygons.min(axis=1), polygons.max(axis=1)], axis=1)
        return Boxes(corners, scores[best], classes[best], None, polygons)


def _kept(layout: YoloTable, raw: Array, confidence: float) -> tuple[Boxes, Array]:
    """The boxes that score enough, and their places in the table."""
    table = layout.table(raw)
    best = table[4:].max(axis=0)
    kept = np.flatnonzero(best > confidence)
    corners = corners_of(table[:4, kept].T, "cxcywh", "pixels", layout.width, layout.height)
    return Boxes(corners, best[kept], table[4:, kept].argmax(axis=0)), kept


def _shown(port: Port) -> str:
    return f"{port.names[0]} [{', '.join(map(str, ['N', *port.row_shape]))}]"
