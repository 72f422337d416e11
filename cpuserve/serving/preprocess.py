"""Pixels into a row of the batch: orientation, resize, crop, padding; colour and scale are the graph's."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cpuserve.serving.decode import Pixels

__all__ = ["RESIZE_TYPES", "Resizer"]

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
            self._resize(_middle(pixels, stored_width, stored_height), target)
        else:
            self._pad(pixels, target, transpose=transpose, flip=flip)
        if transpose:
            target = target.transpose(1, 0, 2)
        row[:] = target if flip is None else target[_flip_slices(flip)]

    def _resize(self, pixels: Pixels, target: Pixels) -> None:
        height, width = target.shape[:2]
        destination = target if target.shape[2] > 1 else target[:, :, 0]
        if pixels.shape[:2] == (height, width):
            destination[:] = pixels
        else:
            cv2.resize(
                pixels, (width, height), dst=destination, interpolation=_INTERPOLATION[self.interpolation]
            )

    def _pad(self, pixels: Pixels, target: Pixels, *, transpose: bool, flip: int | None) -> None:
        height, width = target.shape[:2]
        scale = min(width / pixels.shape[1], height / pixels.shape[0])
        fit_width = max(1, min(width, round(pixels.shape[1] * scale)))
        fit_height = max(1, min(height, round(pixels.shape[0] * scale)))
        left, top = width - fit_width, height - fit_height
        if self.resize_type == "fit_to_window_letterbox":
            left, top = left // 2, top // 2
        else:
            # the padding goes right and below of the upright picture: where that is as stored
            across = flip in (1, -1) if not transpose else flip in (0, -1)
            down = flip in (0, -1) if not transpose else flip in (1, -1)
            left, top = (left if across else 0), (top if down else 0)
        target[:] = self.pad_value
        self._resize(pixels, target[top : top + fit_height, left : left + fit_width])


def _middle(pixels: Pixels, width: int, height: int) -> Pixels:
    """The largest middle part of ``pixels`` with the aspect of width x height."""
    have_height, have_width = pixels.shape[:2]
    keep_width = min(have_width, max(1, round(have_height * width / height)))
    keep_height = min(have_height, max(1, round(have_width * height / width)))
    left, top = (have_width - keep_width) // 2, (have_height - keep_height) // 2
    return np.ascontiguousarray(pixels[top : top + keep_height, left : left + keep_width])


def _flip_slices(code: int) -> tuple[slice, slice]:
    """Index that flips [H, W, ...] as cv2.flip does: 0 upside down, 1 left to right, -1 both."""
    back, keep = slice(None, None, -1), slice(None)
    return (keep if code == 1 else back, keep if code == 0 else back)
