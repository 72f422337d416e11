"""Decodes and resizes pictures into the rows of a model's input."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from cpuserve.errors import RequestError
from cpuserve.models.card import Card
from cpuserve.serving.decode import MAX_SCAN_PIXELS, Decoder, Order, Pixels
from cpuserve.serving.decoder_guard import DecoderGuard
from cpuserve.serving.graph import ImageInput
from cpuserve.serving.preprocess import Resizer
from cpuserve.serving.request import Spans
from cpuserve.serving.stages import DECODE, RESIZE

__all__ = ["Encoded", "PictureInput", "PictureSize", "ScaledPicture"]

Encoded = bytes | bytearray | memoryview


@dataclass(slots=True)
class PictureSize:
    """The picture a row was made of, upright.

    Attributes:
        width: pixels.
        height: pixels.
    """

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class ScaledPicture:
    """A picture that was decoded and brought to a model's input elsewhere, such as a frame of a video.

    Attributes:
        pixels: u8 [H, W, C] of the input's size and colour order, cropped or padded as its resizer would.
        width: of the whole picture, upright, pixels.
        height: of the same.
    """

    pixels: Pixels
    width: int
    height: int


@dataclass(frozen=True)
class PictureInput:
    """Decodes and resizes the pictures of one model into rows u8 [H, W, C].

    Attributes:
        decoder: bytes to pixels.
        resizer: pixels to the input's size.
        channels: of a row, 3 or 1.
    """

    decoder: Decoder
    resizer: Resizer
    channels: int = 3

    @classmethod
    def of(
        cls,
        source: ImageInput,
        card: Card,
        *,
        exact: bool,
        max_pixels: int,
        max_scan_pixels: int = MAX_SCAN_PIXELS,
        guard: DecoderGuard | None = None,
    ) -> PictureInput:
        """The picture input that a model's metadata ask for.

        Args:
            source: the model's picture input.
            card: its metadata.
            exact: decode every pixel of a JPEG, also where fewer would do.
            max_pixels: of the largest picture.
            max_scan_pixels: most scans times pixels of a JPEG of several scans.
            guard: decodes some formats in processes of their own; None decodes all here.
        """
        order: Order = "GRAY" if source.channels == 1 else "RGB" if card.reverse_input_channels else "BGR"
        return cls(
            Decoder(order, exact, max_pixels, max_scan_pixels, guard),
            Resizer(source.width, source.height, card.resize_type, card.interpolation_mode, card.pad_value),
            source.channels,
        )

    def into(self, picture: Encoded | ScaledPicture, row: Pixels, spans: Spans | None = None) -> PictureSize:
        """Decode and resize a picture into ``row``, u8 [H, W, C], overwritten whole.

        Args:
            picture: the whole file, or pixels that only have to be copied.
            row: takes the pixels.
            spans: takes the times of both.

        Raises:
            RequestError: it is not a picture, is damaged, or is too large; or pixels are not like the row.
        """
        if isinstance(picture, ScaledPicture):
            return _copied(picture, row)
        resizer = self.resizer
        pixels, orientation, width, height = self.decoder.decode(picture, resizer.width, resizer.height)
        if spans is None:
            resizer.into(row, pixels, orientation)
        else:
            spans.end(DECODE, time.perf_counter_ns())
            resizer.into(row, pixels, orientation)
            spans.end(RESIZE, time.perf_counter_ns())
        return PictureSize(width, height)

    def row(self, picture: Encoded) -> Pixels:
        """A picture as a row of its own, u8 [H, W, C].

        Raises:
            RequestError: it is not a picture, is damaged, or is too large.
        """
        row: Pixels = np.empty((self.resizer.height, self.resizer.width, self.channels), np.uint8)
        self.into(picture, row)
        return row


def _copied(picture: ScaledPicture, row: Pixels) -> PictureSize:
    pixels = picture.pixels
    if pixels.shape != row.shape or pixels.dtype != np.uint8:
        raise RequestError(
            f"scaled pixels are {pixels.dtype.name} {list(pixels.shape)}; "
            f"the model takes uint8 {list(row.shape)}"
        )
    if picture.width < 1 or picture.height < 1:
        raise RequestError(f"a picture of {picture.width}x{picture.height} pixels has no pixels")
    row[:] = pixels
    return PictureSize(picture.width, picture.height)
