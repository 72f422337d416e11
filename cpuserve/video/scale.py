"""Says what size and colours a video frame is scaled to, and how it is fitted into that size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from cpuserve.serving.preprocess import RESIZE_TYPES, Resizer

__all__ = ["Colour", "Scale", "Scaler", "Window"]

Colour = Literal["RGB", "BGR", "GRAY"]
Scaler = Literal["bilinear", "bicubic", "area", "point"]


class Window(NamedTuple):
    """A part of a picture, in whole pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Scale:
    """What a frame is scaled to. The pixels are always u8 [height, width, C], whatever the frame's size.

    Attributes:
        width: of the scaled pixels.
        height: of the scaled pixels.
        colour: the order of the channels; GRAY has one.
        scaler: of FFmpeg's swscale.
        region: x0, y0, x1, y1 in 0..1: the part of the frame that is cut out first; None is the whole frame.
        fit: ``standard`` stretches that part, ``crop`` cuts its middle to the aspect of width x height,
            ``fit_to_window`` keeps its aspect and pads right and below, ``fit_to_window_letterbox`` pads on
            both sides.
        pad_value: grey level of the padding, 0-255.
    """

    width: int
    height: int
    colour: Colour = "RGB"
    scaler: Scaler = "bilinear"
    region: tuple[float, float, float, float] | None = None
    fit: str = "standard"
    pad_value: int = 0

    def __post_init__(self) -> None:
        if self.fit not in RESIZE_TYPES:
            raise ValueError(f"fit is one of {', '.join(RESIZE_TYPES)}, not {self.fit!r}")

    @property
    def channels(self) -> int:
        """Of the scaled pixels."""
        return 1 if self.colour == "GRAY" else 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the scaled pixels."""
        return self.height, self.width, self.channels

    def windows(self, width: int, height: int) -> tuple[Window, Window]:
        """What is taken of a frame of width x height, and where it lies in the scaled pixels.

        What is outside the second window is padding of ``pad_value``.
        """
        left, top = 0, 0
        if self.region is not None:
            x0, y0, x1, y1 = self.region
            left, top = min(width - 1, int(x0 * width)), min(height - 1, int(y0 * height))
            width = max(1, min(width, round(x1 * width)) - left)
            height = max(1, min(height, round(y1 * height)) - top)
        source, target = Resizer(self.width, self.height, self.fit).windows(width, height)
        return Window(left + source[0], top + source[1], *source[2:]), Window(*target)
