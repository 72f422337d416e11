"""Decodes the outputs of FastestDet and NanoDet, which Model API does not know, into boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cpuserve.serving.engine import Array, Port
from cpuserve.serving.postprocess.detection import Boxes, best_of_each

__all__ = ["FastestDet", "NanoDet"]

_STRIDES = (4, 8, 16, 32, 64, 128)


class FastestDet:
    """The head of FastestDet (https://github.com/dog-qiuqiu/FastestDet).

    One output [5 + classes, rows, columns]: objectness, four numbers of the box, class probabilities. With
    the cell's column gx and row gy, the middle is ``(tanh(b0) + gx) / columns`` and
    ``(tanh(b1) + gy) / rows``, the size ``sigmoid(b2)`` and ``sigmoid(b3)``, shares of the input; the score
    is ``objectness ** 0.6 * probability ** 0.4``.

    Args:
        outputs: of the model.
        width: of its input, pixels.
        height: of its input, pixels.
        confidence: boxes must score more.
        iou: of two boxes of a class that overlap by more, the better stays.

    Raises:
        ValueError: the outputs are none of FastestDet's.
    """

    def __init__(
        self, outputs: Sequence[Port], width: int, height: int, *, confidence: float, iou: float
    ) -> None:
        shapes = [port.row_shape for port in outputs]
        if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][0] < 6 or -1 in shapes[0]:
            raise ValueError(f"FastestDet has one output [N, 5 + classes, rows, columns]: {_shown(shapes)}")
        self._size = np.array([width, height], np.float32)
        self._confidence, self._iou = confidence, iou

    def __call__(self, outputs: Sequence[Array]) -> Boxes:
        """The boxes of one row."""
        (raw,) = outputs
        probabilities = raw[5:].max(axis=0)
        scores = raw[0] ** 0.6 * probabilities**0.4
        rows, columns = np.nonzero(scores > self._confidence)
        kept = raw[:, rows, columns].astype(np.float32, copy=False)
        cells = np.array([[raw.shape[2]], [raw.shape[1]]], np.float32)
        middle = (np.tanh(kept[1:3]) + np.stack([columns, rows])) / cells
        half = 0.5 / (1 + np.exp(-kept[3:5]))
        corners = np.concatenate([(middle - half).T * self._size, (middle + half).T * self._size], axis=1)
        found = Boxes(corners.astype(np.float32), scores[rows, columns], kept[5:].argmax(axis=0))
        return best_of_each(found, self._iou)


class NanoDet:
    """The head of NanoDet (https://github.com/RangiLyu/nanodet), one pair of outputs a stride.

    Classes [cells, classes] hold probabilities, boxes [cells, 4 * bins] a distribution over the distance to
    each of the four sides, in strides, whose expectation counts (generalized focal loss, arXiv:2006.04388).
    The middle of cell i is ``i * stride + (stride - 1) / 2``.

    Args:
        outputs: of the model.
        width: of its input, pixels.
        height: of its input, pixels.
        classes: how many there are; 0 when the metadata have no labels: then a pair's first output has them.
        confidence: boxes must score more.
        iou: of two boxes of a class that overlap by more, the better stays.

    Raises:
        ValueError: the outputs are none of NanoDet's.
    """

    def __init__(
        self, outputs: Sequence[Port], width: int, height: int, classes: int, *, confidence: float, iou: float
    ) -> None:
        self._confidence, self._iou = confidence, iou
        shapes = [port.row_shape for port in outputs]
        self._levels = []
        for cells in sorted({shape[0] for shape in shapes if len(shape) == 2}, reverse=True):
            pair = [place for place, shape in enumerate(shapes) if len(shape) == 2 and shape[0] == cells]
            stride = next((s for s in _STRIDES if -(-width // s) * -(-height // s) == cells), None)
            if len(pair) == 2 and classes and shapes[pair[0]][1] != classes:
                pair.reverse()
            if len(pair) != 2 or stride is None or (classes and shapes[pair[0]][1] != classes):
                break
            if shapes[pair[1]][1] % 4 or shapes[pair[1]][1] < 8:
                break
            row, column = np.divmod(np.arange(cells), -(-width // stride))
            middles = np.stack([column, row], axis=1) * stride + (stride - 1) / 2
            self._levels.append((pair[0], pair[1], stride, middles.astype(np.float32)))
        if not self._levels or 2 * len(self._levels) != len(shapes):
            raise ValueError(
                f"NanoDet has two outputs a stride, [N, cells, {classes or 'classes'}] and "
                f"[N, cells, 4 * bins]: {_shown(shapes)}"
            )

    @property
    def class_places(self) -> list[int]:
        """Which outputs hold class scores."""
        return [level[0] for level in self._levels]

    def __call__(self, outputs: Sequence[Array]) -> Boxes:
        """The boxes of one row."""
        corners, scores, classes = [], [], []
        for class_place, box_place, stride, middles in self._levels:
            probabilities = outputs[class_place]
            best = probabilities.max(axis=1)
            kept = np.flatnonzero(best > self._confidence)
            scores.append(best[kept])
            classes.append(probabilities[kept].argmax(axis=1))
            bins = outputs[box_place][kept].astype(np.float32, copy=False)
            bins = bins.reshape(len(kept), 4, bins.shape[1] // 4)
            weights = np.exp(bins - bins.max(axis=2, keepdims=True))
            weights /= weights.sum(axis=2, keepdims=True)
            sides = weights @ np.arange(bins.shape[2], dtype=np.float32) * stride
            corners.append(
                np.concatenate([middles[kept] - sides[:, :2], middles[kept] + sides[:, 2:]], axis=1)
            )
        return best_of_each(Boxes(*map(np.concatenate, (corners, scores, classes))), self._iou)


def _shown(shapes: Sequence[tuple[int, ...]]) -> str:
    return "this has " + ", ".join(str(["N", *shape]).replace("'", "") for shape in shapes)
