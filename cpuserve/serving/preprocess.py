"""Turns, resizes, crops and pads pixels into a row of the batch. The graph applies colour and scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from cpuserve.serving.decode import Pixels

__all__ = ["RESIZE_TYPES", "Placement", "Resizer"]

_Window = tuple[int, int, int, int]  # left, top, width and height
RESIZE_TYPES = ("standard", "crop", "fit_to_window", "fit_to_window_letterbox")
_INTERPOLATION = {"LINEAR": cv2.INTER_LINEAR, "CUBIC": cv2.INTER_CUBIC, "NEAREST": cv2.INTER_NEAREST}
# EXIF orientations as (transpose, flip code of cv2.flip or None), applied after the resize.
_TURNS: dict[int, tuple[bool, int | None]] = {
    2: (False, 1),
    3: (False, -1),
    4: (False, 0),
    5: (True, None),
    6: (True, 1),
    7: (True, -1),
    8: (True, 0),
}


class Placement(NamedTuple):
    """Where an upright picture lies in the model's input: ``input = picture * scale + offset``, by axis.

    Both are measured from the upper left corner of the upper left pixel, so that a picture of width w spans
    0 to w.

    Attributes:
        scale_x: input pixels a picture pixel, across.
        scale_y: input pixels a picture pixel, down.
        left: where the picture's left edge is in the input; below 0 where it is cut off.
        top: where its upper edge is.
    """

    scale_x: float
    scale_y: float
    left: float
    top: float

    def to_picture(self, points: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
        """Points x, y of the input as points of the picture; they may lie outside it.

        Args:
            points: [..., 2k], x and y in turn, input pixels.

        Returns:
            Picture pixels, same shape.
        """
        pairs = points.shape[-1] // 2
        scale, offset = [self.scale_x, self.scale_y] * pairs, [self.left, self.top] * pairs
        found: npt.NDArray[np.floating[Any]] = (points - offset) / np.array(scale)
        return found


@dataclass(frozen=True)
class Resizer:
    """Fits pictures into the model's input as Model API's resize types do.

    Attributes:
        width: of the model's input, pixels.
        height: of the model's input, pixels.
        resize_type: ``standard`` stretches, ``crop`` cuts the middle to the input's aspect, ``fit_to_window``
            pads right and below, ``fit_to_window_letterbox`` pads on both sides.
        interpolation: LINEAR, CUBIC or NEAREST.
        pad_value: grey level of the padding, 0-255.
    """

    width: int
    height: int
    resize_type: str = "standard"
    interpolation: str = "LINEAR"
    pad_value: int = 0

    def into(self, row: Pixels, pixels: Pixels, orientation: int = 1) -> None:
        """Write ``pixels`` into ``row``.

        The resize comes before the turn, so that only the small picture is turned.

        Args:
            row: u8 [height, width, C] of the batch; overwritten whole.
            pixels: u8 [H, W, 3] or [H, W] as stored.
            orientation: EXIF orientation 1-8 to apply.
        """
        transpose, flip = _TURNS.get(orientation, (False, None))
        stored_width, stored_height = (self.height, self.width) if transpose else (self.width, self.height)
        if orientation == 1 and self.resize_type == "standard":
            self._resize(pixels, row)
            return
        upright: Pixels = np.empty_like(row)
        target = upright.reshape(stored_height, stored_width, row.shape[2]) if transpose else upright
        if self.resize_type == "standard":
            self._resize(pixels, target)
        elif self.resize_type == "crop":
            window = _middle(pixels.shape[1], pixels.shape[0], stored_width, stored_height)
            part = _as_stored(window, pixels.shape[1], pixels.shape[0], transpose, flip)
            self._resize(np.ascontiguousarray(pixels[part]), target)
        else:
            window = self._fit(pixels.shape[1], pixels.shape[0], stored_width, stored_height)
            target[:] = self.pad_value
            self._resize(pixels, target[_as_stored(window, stored_width, stored_height, transpose, flip)])
        if transpose:
            target = target.transpose(1, 0, 2)
        row[:] = target if flip is None else target[_flip_slices(flip)]

    def windows(self, width: int, height: int) -> tuple[_Window, _Window]:
        """What is taken of an upright picture of width x height, and where it lies in the input.

        Returns:
            Left, top, width and height of both, whole pixels. The input outside of the second is padding.
        """
        whole = 0, 0, width, height
        if self.resize_type == "standard":
            return whole, (0, 0, self.width, self.height)
        if self.resize_type == "crop":
            return _middle(width, height, self.width, self.height), (0, 0, self.width, self.height)
        return whole, self._fit(width, height, self.width, self.height)

    def placement(self, width: int, height: int) -> Placement:
        """Where an upright picture of width x height is placed."""
        (left, top, taken_width, taken_height), target = self.windows(width, height)
        scale_x, scale_y = target[2] / taken_width, target[3] / taken_height
        return Placement(scale_x, scale_y, target[0] - left * scale_x, target[1] - top * scale_y)

    def _fit(self, width: int, height: int, into_width: int, into_height: int) -> _Window:
        """Left, top, width and height of a whole picture width x height in a window, padding around it."""
        scale = min(into_width / width, into_height / height)
        fit_width = max(1, min(into_width, round(width * scale)))
        fit_height = max(1, min(into_height, round(height * scale)))
        if self.resize_type == "fit_to_window":
            return 0, 0, fit_width, fit_height
        return (into_width - fit_width) // 2, (into_height - fit_height) // 2, fit_width, fit_height

    def _resize(self, pixels: Pixels, target: Pixels) -> None:
        height, width = target.shape[:2]
        destination = target if target.shape[2] > 1 else target[:, :, 0]
        if pixels.shape[:2] == (height, width):
            destination[:] = pixels
        else:
            cv2.resize(
                pixels, (width, height), dst=destination, interpolation=_INTERPOLATION[self.interpolation]
            )


def _middle(width: int, height: int, like_width: int, like_height: int) -> _Window:
    """Left, top, width and height of the largest middle part of width x height with another's aspect."""
    keep_width = min(width, max(1, round(height * like_width / like_height)))
    keep_height = min(height, max(1, round(width * like_height / like_width)))
    return (width - keep_width) // 2, (height - keep_height) // 2, keep_width, keep_height


def _as_stored(
    window: _Window, width: int, height: int, transpose: bool, flip: int | None
) -> tuple[slice, slice]:
    """Rows and columns of a window in pixels as they are stored, that will be transposed and flipped.

    Args:
        window: left, top, width and height; left and top are the upright picture's, which are right and below
            as stored where a flip follows.
        width: of what the window is in, as stored.
        height: of the same.
        transpose: whether they will be.
        flip: code of cv2.flip, or None.
    """
    left, top, across, down = window
    if flip in ((1, -1) if not transpose else (0, -1)):
        left = width - across - left
    if flip in ((0, -1) if not transpose else (1, -1)):
        top = height - down - top
    return slice(top, top + down), slice(left, left + across)


def _flip_slices(code: int) -> tuple[slice, slice]:
    """Index that flips [H, W, ...] as cv2.flip does: 0 upside down, 1 left to right, -1 both."""
    back, keep = slice(None, None, -1), slice(None)
    return (keep if code == 1 else back, keep if code == 0 else back)
