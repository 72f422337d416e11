"""Encoded pictures to pixels: JPEG by libjpeg-turbo, scaled where that is allowed, the rest by OpenCV."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from cpuserve.errors import TooManyPixels, UndecodableImage
from cpuserve.serving.header import ImageHeader, read_header

__all__ = ["Decoded", "Decoder", "Pixels"]

Pixels = npt.NDArray[np.uint8]
Order = Literal["RGB", "BGR", "GRAY"]

cv2.setNumThreads(1)  # the parallelism is across requests; OpenCV's own threads would leave the seat's plan
cv2.utils.logging.setLogLevel(0)  # what OpenCV says of a bad picture goes to the client, not to stderr

_OPENCV_FLAGS = {
    "RGB": cv2.IMREAD_COLOR_RGB,
    "BGR": cv2.IMREAD_COLOR,
    "GRAY": cv2.IMREAD_GRAYSCALE,
}
# What libjpeg-turbo warns of though every pixel is there; any other warning means lost data.
_HARMLESS = ("extraneous bytes", "Invalid SOS parameters", "Inconsistent progression", "Adobe", "JFIF")


class Decoded(NamedTuple):
    """A decoded picture.

    Attributes:
        pixels: u8 [H, W, 3] ([H, W] for GRAY) as they are stored; they may be fewer than the picture has.
        orientation: EXIF orientation (1-8) that is still to be applied to them.
        width: of the whole picture, upright.
        height: of the whole picture, upright.
    """

    pixels: Pixels
    orientation: int
    width: int
    height: int


@dataclass(frozen=True)
class Decoder:
    """Decodes the pictures for one model.

    Attributes:
        order: colour order of the pixels it yields.
        exact: decode every pixel; otherwise a JPEG may be decoded at 1/8..8/8 of its size, as long as it
            stays at least as large as what it is resized to. The scaled image is anti-aliased, which a
            bilinear resize of the full one is not.
        max_pixels: largest picture, by its header.
    """

    order: Order = "RGB"
    exact: bool = False
    max_pixels: int = 32_000_000

    def decode(self, data: bytes | bytearray | memoryview, width: int = 0, height: int = 0) -> Decoded:
        """Decode one picture.

        Args:
            data: the encoded file.
            width: the width it will be resized to, upright; the lower bound of a scaled decode.
            height: the height it will be resized to, upright.

        Raises:
            UnsupportedFormat: not a picture of an accepted format.
            UndecodableImage: damaged or truncated.
            TooManyPixels: more than ``max_pixels``.
        """
        header = read_header(data)
        if header.width * header.height > self.max_pixels:
            raise TooManyPixels(
                f"the picture has {header.width}x{header.height} = {header.width * header.height} pixels, "
                f"the limit is {self.max_pixels} (setting max_pixels)"
            )
        if header.format == "JPEG":
            return self._jpeg(data, header, width, height)
        return self._opencv(data, header)

    def _jpeg(
        self, data: bytes | bytearray | memoryview, header: ImageHeader, width: int, height: int
    ) -> Decoded:
        upright = header.width, header.height
        if header.orientation > 4:
            width, height = height, width
            upright = header.height, header.width
        if self.exact:
            width = height = 0
        try:
            pixels: Pixels = simplejpeg.decode_jpeg(
                data, self.order, min_width=width, min_height=height, min_factor=1
            )
        except ValueError as error:
            if any(words in str(error) for words in _HARMLESS):
                return self._opencv(data, header)
            raise UndecodableImage(f"the JPEG is damaged or truncated: {error}") from None
        return Decoded(
            pixels if self.order != "GRAY" else pixels[:, :, 0], header.orientation, upright[0], upright[1]
        )

    def _opencv(self, data: bytes | bytearray | memoryview, header: ImageHeader) -> Decoded:
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _OPENCV_FLAGS[self.order])
        except cv2.error as error:
            raise UndecodableImage(f"the {header.format} cannot be decoded: {error.err}") from None
        if pixels is None:
            raise UndecodableImage(f"the {header.format} is damaged or truncated")
        # OpenCV has applied the orientation; u8, as no flag asks for another depth
        return Decoded(pixels, 1, pixels.shape[1], pixels.shape[0])  # type: ignore[arg-type]
