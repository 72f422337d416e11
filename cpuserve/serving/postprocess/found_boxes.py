"""Reads boxes out of models that have chosen them already: SSD, YOLOv10, YOLO26, and torchvision's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cpuserve.serving.engine import Array, Port
from cpuserve.serving.postprocess.detection import Boxes, best_of_each

__all__ = ["ChosenRows", "FoundBoxes", "corners_of"]

_TF_BOXES = ("detection_boxes", "tflite_detection_postprocess")  # y1 x1 y2 x2, shares of the input
_MOST_ROWS = 1000
_SHARE = 2.0  # boxes whose numbers are all smaller are shares of the input: one of 2 pixels is no find
_DETECTION_OUTPUT = 7


def corners_of(boxes: Array, order: str, unit: str, width: int, height: int) -> Array:
    """Boxes as x1 y1 x2 y2 in pixels of the input, f32 [N, 4].

    Args:
        boxes: [N, 4].
        order: "xyxy", "yxyx", "xywh" or "cxcywh".
        unit: "pixels", "share" of the input, or empty: shares where no number is larger than 2.
        width: of the input, pixels.
        height: of the input, pixels.
    """
    found = boxes.astype(np.float32)
    asked = boxes[:, :2] if order in ("xywh", "cxcywh") else boxes  # sizes may be larger than the input
    if not unit and len(found) and np.abs(asked).max() <= _SHARE:
        unit = "share"
    if order == "yxyx":
        found = found[:, [1, 0, 3, 2]]
    elif order == "xywh":
        found[:, 2:] += found[:, :2]
    elif order == "cxcywh":
        half = found[:, 2:] / 2
        found = np.concatenate([found[:, :2] - half, found[:, :2] + half], axis=1)
    if unit == "share":
        found *= np.array([width, height] * 2, np.float32)
    return found


class ChosenRows:
    """One output [k, 6]: box, score and class of each find, as YOLOv10, YOLO26 and exports with NMS have it.

    Args:
        outputs: of the model.
        width: of its input, pixels.
        height: of its input, pixels.
        confidence: boxes must score more.
        order: of the numbers of a box; empty: x1 y1 x2 y2.
        unit: "pixels", "share", or empty.

    Raises:
        ValueError: the outputs are others.
    """

    def __init__(
        self,
        outputs: Sequence[Port],
        width: int,
        height: int,
        *,
        confidence: float,
        order: str = "",
        unit: str = "",
    ) -> None:
        shape = outputs[0].row_shape
        if len(outputs) != 1 or len(shape) < 2 or shape[-1] != 6 or shape[-2] > _MOST_ROWS:
            raise ValueError(
                f"finds are one output [N, k, 6], x1 y1 x2 y2 score class, k up to {_MOST_ROWS}: this has "
                + ", ".join(str(["N", *port.row_shape]).replace("'", "") for port in outputs)
            )
        self._size = width, height
        self._confidence, self._order, self._unit = confidence, order or "xyxy", unit

    def __call__(self, outputs: Sequence[Array]) -> Boxes:
        """The boxes of one row."""
        rows = outputs[0].reshape(-1, 6)
        kept = rows[rows[:, 4] > self._confidence]
        corners = corners_of(kept[:, :4], self._order, self._unit, *self._size)
        return Boxes(corners, kept[:, 4].astype(np.float32), kept[:, 5].round().astype(np.intp))


class FoundBoxes:
    """Boxes, classes and scores that a detector with its own non-maximum suppression answers, any number.

    The outputs are one of [1, 1, k, 7] (OpenVINO's DetectionOutput: picture, class, score, box in shares),
    boxes with scores [k, 5] and classes [k], or boxes [k, 4], scores [k] and classes [k] apart. The last is
    torchvision's, and with a number of finds that of TensorFlow's detection API.

    Args:
        outputs: of the model.
        width: of its input, pixels.
        height: of its input, pixels.
        confidence: boxes must score more.
        iou: of two boxes of a class that overlap by more, the better stays; None: all stay.
        order: of the numbers of a box; empty: by the names of the outputs.
        unit: "pixels", "share", or empty.

    Attributes:
        counts_from: the number of the first class that is not the background, 0 or 1; None: it is not known.

    Raises:
        ValueError: the outputs are others.
    """

    def __init__(
        self,
        outputs: Sequence[Port],
        width: int,
        height: int,
        *,
        confidence: float,
        iou: float | None = None,
        order: str = "",
        unit: str = "",
    ) -> None:
        self._size = width, height
        self._confidence, self._iou, self._unit = confidence, iou, unit
        self._whole, self._boxes, self._scores, self._classes, self._count = _places(outputs)
        name = "" if self._boxes is None else outputs[self._boxes].names[0].lower()
        self._order = order or ("yxyx" if name.startswith(_TF_BOXES) else "xyxy")
        self.counts_from = next(
            (1 - place for place, word in enumerate(_TF_BOXES) if name.startswith(word)), None
        )

    def __call__(self, outputs: Sequence[Array]) -> Boxes:
        """The boxes of one row."""
        boxes, scores, classes = self._parts(outputs)
        kept = np.flatnonzero(scores > self._confidence)
        unit = "share" if self._whole is not None and not self._unit else self._unit
        found = Boxes(
            corners_of(boxes[kept], self._order, unit, *self._size),
            scores[kept].astype(np.float32),
            classes[kept].round().astype(np.intp) if classes.dtype.kind == "f" else classes[kept],
        )
        return found if self._iou is None else best_of_each(found, self._iou)

    def _parts(self, outputs: Sequence[Array]) -> tuple[Array, Array, Array]:
        if self._whole is not None:
            rows = outputs[self._whole].reshape(-1, _DETECTION_OUTPUT)
            end = np.flatnonzero(rows[:, 0] < 0)  # the first row without a picture ends the list
            rows = rows[: end[0]] if len(end) else rows
            return rows[:, 3:], rows[:, 2], rows[:, 1]
        if self._boxes is None:
            raise ValueError("there are no boxes")
        boxes = outputs[self._boxes]
        boxes = boxes.reshape(-1, boxes.shape[-1])
        count = len(boxes)
        if self._count is not None:
            count = min(count, int(outputs[self._count].reshape(-1)[0]))
        scores = boxes[:, 4] if self._scores is None else outputs[self._scores].reshape(-1)
        none = np.zeros(len(boxes), np.intp)
        classes = none if self._classes is None else outputs[self._classes].reshape(-1)
        return boxes[:count, :4], scores[:count], classes[:count]


_Place = int | None


def _places(outputs: Sequence[Port]) -> tuple[_Place, _Place, _Place, _Place, _Place]:
    """Which output holds whole rows, boxes, scores, classes, and the number of finds."""
    shapes = [port.row_shape for port in outputs]
    if len(outputs) == 1 and len(shapes[0]) >= 2 and shapes[0][-1] == _DETECTION_OUTPUT:
        return 0, None, None, None, None
    wide = [
        place
        for place, shape in enumerate(shapes)
        if len(shape) >= 2 and shape[-1] in (4, 5) and outputs[place].dtype.kind == "f"
    ]
    named = [place for place in wide if outputs[place].names[0].lower().startswith(_TF_BOXES[0])]
    if len(wide) != 1 and len(named) != 1:
        raise ValueError(_wanted(outputs))
    (boxes,) = named if len(named) == 1 else wide
    finds = [place for place, shape in enumerate(shapes) if place != boxes and shape == shapes[boxes][:-1]]
    count = next(
        (place for place, port in enumerate(outputs) if port.names[0].lower().startswith("num_det")), None
    )
    if count is None:
        count = next((place for place in range(len(outputs)) if shapes[place] in ((), (1,))), None)
    classes, scores = _named(outputs, finds, ("class", "label", "cls")), None
    if outputs[boxes].names[0].lower().startswith(_TF_BOXES[1]) and len(finds) == 2:
        # TFLite's four outputs are told apart by their order alone
        classes, scores = sorted(finds, key=lambda place: outputs[place].names[0])
        return None, boxes, scores, classes, count
    if classes is None:
        classes = next((place for place in finds if outputs[place].dtype.kind in "iu"), None)
    if shapes[boxes][-1] == 4:
        scores = _named(outputs, finds, ("score", "conf", "prob"))
        if scores is None:
            rest = [place for place in finds if place != classes and outputs[place].dtype.kind == "f"]
            scores = rest[0] if len(rest) == 1 else None
        if scores is None or classes is None:
            raise ValueError(_wanted(outputs))
    elif classes is None and len(outputs) > 1:
        raise ValueError(_wanted(outputs))
    return None, boxes, scores, classes, None if count in (boxes, scores, classes) else count


def _named(outputs: Sequence[Port], among: Sequence[int], words: Sequence[str]) -> int | None:
    found = [place for place in among if any(word in outputs[place].names[0].lower() for word in words)]
    return found[0] if len(found) == 1 else None


def _wanted(outputs: Sequence[Port]) -> str:
    shown = ", ".join(
        f"{port.names[0]} {['N', *port.row_shape]} {port.dtype.name}".replace("'", "") for port in outputs
    )
    return (
        "SSD has one output [1, 1, k, 7], boxes with scores [k, 5] and classes [k], or boxes [k, 4], "
        f"scores [k] and classes [k]: this has {shown}"
    )
