"""Decodes the outputs of SCRFD, InsightFace's face detector, into boxes and their five keypoints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cpuserve.serving.engine import Array, Port
from cpuserve.serving.postprocess.detection import Boxes, best_of_each

__all__ = ["Scrfd"]

_STRIDES = (8, 16, 32, 64, 128)
_BOX, _POINTS = 4, 10


class Scrfd:
    """SCRFD's head (arXiv:2105.04714): scores [k, 1], boxes [k, 4] and maybe keypoints [k, 10] a stride.

    A box holds the distances from a cell's upper left corner to the four sides, in strides; a keypoint those
    along x and y. Each cell has one or two anchors, one behind the other.

    Args:
        outputs: of the model.
        width: of its input, pixels.
        height: of its input, pixels.
        confidence: boxes must score more.
        iou: of two boxes that overlap by more, the better stays.

    Raises:
        ValueError: the outputs are none of SCRFD's.
    """

    def __init__(
        self, outputs: Sequence[Port], width: int, height: int, *, confidence: float, iou: float
    ) -> None:
        self._confidence, self._iou = confidence, iou
        shapes = [port.row_shape for port in outputs]
        self._levels = []
        counts = sorted({shape[0] for shape in shapes if len(shape) == 2}, reverse=True)
        for count in counts:
            by_size = {
                shape[1]: place for place, shape in enumerate(shapes) if len(shape) == 2 and shape[0] == count
            }
            layout = next(
                (
                    (stride, anchors)
                    for stride in _STRIDES
                    for anchors in (1, 2)
                    if -(-width // stride) * -(-height // stride) * anchors == count
                ),
                None,
            )
            if layout is None or {1, _BOX} - by_size.keys() or by_size.keys() - {1, _BOX, _POINTS}:
                break
            stride, anchors = layout
            row, column = np.divmod(np.arange(count // anchors), -(-width // stride))
            corners = np.repeat(np.stack([column, row], axis=1) * stride, anchors, axis=0)
            self._levels.append((by_size, stride, corners.astype(np.float32)))
        if len(self._levels) < 2 or sum(len(level[0]) for level in self._levels) != len(shapes):
            shown = ", ".join(str(["N", *shape]).replace("'", "") for shape in shapes)
            raise ValueError(
                "SCRFD has scores [N, k, 1], boxes [N, k, 4] and keypoints [N, k, 10] a stride: "
                f"this has {shown}"
            )

    @property
    def score_places(self) -> list[int]:
        """Which outputs hold scores."""
        return [level[0][1] for level in self._levels]

    @property
    def has_points(self) -> bool:
        """Whether each box has its five keypoints."""
        return all(_POINTS in level[0] for level in self._levels)

    def __call__(self, outputs: Sequence[Array]) -> Boxes:
        """The boxes of one row."""
        corners, scores, points = [], [], []
        for places, stride, cells in self._levels:
            level = outputs[places[1]].reshape(-1)
            kept = np.flatnonzero(level > self._confidence)
            scores.append(level[kept].astype(np.float32))
            sides = outputs[places[_BOX]][kept].astype(np.float32) * stride
            corners.append(np.concatenate([cells[kept] - sides[:, :2], cells[kept] + sides[:, 2:]], axis=1))
            if _POINTS in places:
                away = outputs[places[_POINTS]][kept].astype(np.float32).reshape(-1, _POINTS // 2, 2) * stride
                spots = cells[kept][:, None] + away
                sure = np.broadcast_to(level[kept][:, None, None], (*spots.shape[:2], 1))
                points.append(np.concatenate([spots, sure], axis=2))
        whole = np.concatenate(scores)
        found = Boxes(np.concatenate(corners), whole, np.zeros(len(whole), np.intp))
        if len(points) == len(self._levels):
            found = found._replace(points=np.concatenate(points))
        return best_of_each(found, self._iou)
