"""Decodes the outputs of Yolo-FastestV2 into boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cpuserve.serving.engine import Array, Port
from cpuserve.serving.postprocess.detection import Boxes, best_of_each
from cpuserve.serving.postprocess.found_boxes import corners_of

__all__ = ["COCO_ANCHORS", "YoloFastestV2"]

# of the weights that its repository brings, for COCO at 352 x 352; stride 16 first
COCO_ANCHORS = (
    *(12.64, 19.39, 37.88, 51.48, 55.71, 138.31),
    *(126.91, 78.23, 131.57, 214.55, 279.92, 258.87),
)
_ANCHORS = 3
_STRIDES = (16, 32)


class YoloFastestV2:
    """The head of Yolo-FastestV2 (https://github.com/dog-qiuqiu/Yolo-FastestV2), for strides 16 and 32.

    Two outputs [rows, columns, 3 * 4 + 3 + classes]: the boxes of three anchors, their objectness, and class
    probabilities that they share. With the cell's column gx the middle is ``(2 * b0 - 0.5 + gx) * stride``,
    the width ``(2 * b2) ** 2 * anchor``.

    Args:
        outputs: of the model.
        width: of its input, pixels.
        height: of its input, pixels.
        classes: how many there are; 0: as many as numbers are left.
        confidence: boxes must score more.
        iou: of two boxes of a class that overlap by more, the better stays.
        anchors: width and height of each anchor, pixels.

    Raises:
        ValueError: the outputs are others.
    """

    def __init__(
        self,
        outputs: Sequence[Port],
        width: int,
        height: int,
        classes: int,
        *,
        confidence: float,
        iou: float,
        anchors: Sequence[float] = COCO_ANCHORS,
    ) -> None:
        shapes = [port.row_shape for port in outputs]
        numbers = _ANCHORS * 5 + classes
        wanted = [(-(-height // stride), -(-width // stride)) for stride in _STRIDES]
        order = sorted(range(len(shapes)), key=lambda place: -shapes[place][0] if shapes[place] else 0)
        fits = len(shapes) == 2 and all(
            len(shapes[place]) == 3
            and shapes[place][:2] == sides
            and (shapes[place][2] == numbers if classes else shapes[place][2] > numbers)
            for place, sides in zip(order, wanted, strict=True)
        )
        if not fits or len(anchors) != 2 * 2 * _ANCHORS:
            shown = ", ".join(str(["N", *shape]).replace("'", "") for shape in shapes)
            raise ValueError(
                f"Yolo-FastestV2 has outputs [N, rows, columns, {numbers if classes else '15 + C'}] for the "
                f"strides 16 and 32, and {_ANCHORS} anchors each: this has {shown}"
            )
        self._size = width, height
        self._confidence, self._iou = confidence, iou
        sizes = np.array(anchors, np.float32).reshape(2, _ANCHORS, 2)
        self._levels = list(zip(order, _STRIDES, sizes, strict=True))

    def __call__(self, outputs: Sequence[Array]) -> Boxes:
        """The boxes of one row."""
        boxes, scores, classes = [], [], []
        for place, stride, anchors in self._levels:
            raw = outputs[place].astype(np.float32)
            chances = raw[..., 5 * _ANCHORS :].max(axis=2)
            level = raw[..., 4 * _ANCHORS : 5 * _ANCHORS] * chances[..., None]
            row, column, anchor = np.nonzero(level > self._confidence)
            four = raw[..., : 4 * _ANCHORS].reshape(*raw.shape[:2], _ANCHORS, 4)[row, column, anchor]
            middles = (four[:, :2] * 2 - 0.5 + np.stack([column, row], axis=1)) * stride
            boxes.append(np.concatenate([middles, (four[:, 2:] * 2) ** 2 * anchors[anchor]], axis=1))
            scores.append(level[row, column, anchor])
            classes.append(raw[row, column, 5 * _ANCHORS :].argmax(axis=1))
        corners = corners_of(np.concatenate(boxes), "cxcywh", "pixels", *self._size)
        return best_of_each(Boxes(corners, np.concatenate(scores), np.concatenate(classes)), self._iou)
