"""Finds the class of each pixel, and the share of the picture that each class covers."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from cpuserve.errors import RequestError
from cpuserve.serving.decode import Pixels
from cpuserve.serving.engine import Array
from cpuserve.serving.picture_input import PictureSize
from cpuserve.serving.postprocess.answers import Answer, check_topk, label_of
from cpuserve.serving.preprocess import Resizer

__all__ = ["NOT_SEEN", "Segmenter"]

NOT_SEEN = 255  # in a mask: pixels the model did not see; PASCAL VOC marks those to be ignored so


class Segmenter:
    """Answers the share of the picture by class, and makes masks.

    Args:
        labels: name by class.
        axis: of the class scores in a row: -3 for [C, H, W], -1 for [H, W, C]; None: class ids [H, W], or
            with ``least`` one score a pixel.
        resizer: how pictures were brought to the input.
        least: scores have to be higher. One score a pixel is class 1, or else class 0, the background; of
            several classes none is a pixel's whose scores are all lower. None: the highest score counts.
    """

    def __init__(
        self, labels: Sequence[str], axis: int | None, resizer: Resizer, *, least: float | None = None
    ) -> None:
        self._labels = (
            ("background", *labels) if axis is None and least is not None and len(labels) == 1 else labels
        )
        self._axis = axis
        self._least = least
        self._resizer = resizer
        self._padded = resizer.resize_type.startswith("fit_to_window")

    @property
    def labels(self) -> Sequence[str]:
        """Name by class; there may be more classes than names."""
        return self._labels

    def answer(self, outputs: Sequence[Array], topk: int | None, frame: PictureSize, /) -> Answer:
        """``{"classes": [{"class_id", "label", "area"}]}``, largest first.

        Areas are shares of the picture, of its middle part where the resize crops.

        Raises:
            RequestError: ``topk`` is below 1.
        """
        check_topk(topk)
        ids = self._ids(outputs, frame)
        if ids.size and ids.min() < 0:
            raise RequestError(f"the model answers class {ids.min()}: a class id is 0 or more")
        counts = np.bincount(ids.reshape(-1).astype(np.intp, copy=False))
        if self._axis is not None and self._least is not None:
            counts = counts[:NOT_SEEN]
        order = np.argsort(-counts, kind="stable")[:topk]
        return {
            "classes": [
                {
                    "class_id": index,
                    "label": label_of(self._labels, index),
                    "area": round(int(counts[index]) / ids.size, 6),
                }
                for index in order.tolist()
                if counts[index]
            ]
        }

    def mask(self, outputs: Sequence[Array], frame: PictureSize) -> Pixels:
        """The class of each pixel of the picture, u8 [height, width], nearest neighbour; `NOT_SEEN` outside.

        Raises:
            RequestError: a class id does not fit.
        """
        ids = self._ids(outputs, frame)
        none = self._axis is not None and self._least is not None  # pixels of no class are marked already
        if ids.min() < 0 or ids.max() >= NOT_SEEN + none:
            raise RequestError(
                f"class ids {ids.min()} to {ids.max()} do not fit a mask of bytes, which holds 0 to 254"
            )
        small = ids.astype(np.uint8)
        if self._resizer.resize_type != "crop":
            return _scaled(small, frame.width, frame.height)
        place = self._resizer.placement(frame.width, frame.height)
        left, top = round(-place.left / place.scale_x), round(-place.top / place.scale_y)
        width, height = (
            round(self._resizer.width / place.scale_x),
            round(self._resizer.height / place.scale_y),
        )
        whole = np.full((frame.height, frame.width), NOT_SEEN, np.uint8)
        whole[top : top + height, left : left + width] = _scaled(small, width, height)
        return whole

    def _ids(self, outputs: Sequence[Array], frame: PictureSize) -> Array:
        """Class ids [H, W] where the output shows the picture; any padding is left out."""
        scores = outputs[0]
        if self._axis is None:
            ids = _flat(scores) if self._least is None else (_flat(scores) > self._least).astype(np.uint8)
        else:
            ids = scores.argmax(axis=self._axis)
            if self._least is not None:
                ids[scores.max(axis=self._axis) <= self._least] = NOT_SEEN
        if not self._padded:
            return ids
        resizer = self._resizer
        place = resizer.placement(frame.width, frame.height)
        # the output may be smaller than the input
        down, across = ids.shape[0] / resizer.height, ids.shape[1] / resizer.width
        top, left = round(place.top * down), round(place.left * across)
        bottom = max(top + 1, round((place.top + frame.height * place.scale_y) * down))
        right = max(left + 1, round((place.left + frame.width * place.scale_x) * across))
        part: Array = ids[top:bottom, left:right]
        return part


def _flat(values: Array) -> Array:
    """[H, W] of [1, H, W], [H, W, 1] or [H, W]."""
    if values.ndim > 2 and values.shape[-1] == 1:
        return values.reshape(values.shape[-3:-1])
    return values.reshape(values.shape[-2:])


def _scaled(ids: Pixels, width: int, height: int) -> Pixels:
    # EXACT takes the pixel whose middle is nearest, as other libraries do; the plain one the one to its left
    return cv2.resize(ids, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)  # type: ignore[return-value]
