"""Decodes pictures: JPEG with libjpeg-turbo, scaled down where that is allowed, other formats with OpenCV."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from cpuserve.errors import TooManyPixels, TooMuchDecoding, UndecodableImage
from cpuserve.serving.bmp_fields import decode_fields, has_fields
from cpuserve.serving.decoder_guard import DecoderGuard
from cpuserve.serving.first_image import first_image
from cpuserve.serving.jpeg import opencv_jpeg, turbo_jpeg
from cpuserve.serving.jpeg_header import count_scans
from cpuserve.serving.picture_header import ImageHeader, read_header

__all__ = ["MAX_SCAN_PIXELS", "Decoded", "Decoder", "Pixels", "scaled_size"]

Pixels = npt.NDArray[np.uint8]
Order = Literal["RGB", "BGR", "GRAY"]

cv2.setNumThreads(
    1
)  # requests run in parallel already; OpenCV's own threads would run beside those planned for the seat
cv2.utils.logging.setLogLevel(0)  # messages about bad pictures go to the client, not to stderr

_OPENCV_FLAGS = {
    "RGB": cv2.IMREAD_COLOR_RGB,
    "BGR": cv2.IMREAD_COLOR,
    "GRAY": cv2.IMREAD_GRAYSCALE,
}
MAX_SCAN_PIXELS = 640_000_000  # twenty scans of the largest picture; libjpeg-turbo takes a second for them
_LEAST_SCAN_PIXELS = 4096  # what a scan costs by itself, however small the picture is


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
        max_scan_pixels: most scans times pixels of a JPEG that has several scans.
        guard: decodes some formats in processes of their own; None decodes all here.
    """

    order: Order = "RGB"
    exact: bool = False
    max_pixels: int = 32_000_000
    max_scan_pixels: int = MAX_SCAN_PIXELS
    guard: DecoderGuard | None = None

    def decode(self, data: bytes | bytearray | memoryview, width: int = 0, height: int = 0) -> Decoded:
        """Decode one picture.

        Args:
            data: the encoded file.
            width: the width it will be resized to, upright; the lower bound of a scaled decode.
            height: the height it will be resized to, upright.

        Raises:
            UnsupportedFormat: not a picture of an accepted format, or of a variant that is not decoded.
            UndecodableImage: damaged or truncated.
            TooManyPixels: more than ``max_pixels``.
            TooMuchDecoding: more scans than ``max_scan_pixels`` allows, or more time than the guard does.
        """
        header = read_header(data)
        pixels = header.width * header.height
        if pixels > self.max_pixels:
            raise TooManyPixels(
                f"the picture has {header.width}x{header.height} = {pixels} pixels, "
                f"the limit is {self.max_pixels} (setting max_pixels)"
            )
        # most JPEGs are too short to hold that many scans, and need no count of them
        if header.frame and (pixels + _LEAST_SCAN_PIXELS) * len(data) > 8 * self.max_scan_pixels:
            self._check_scans(data, header)
        if self.guard is not None and header.format in self.guard.formats:
            return self._guarded(self.guard, data, header, width, height)
        if header.format == "JPEG":
            return self._jpeg(data, header, width, height)
        return self._opencv(first_image(data, header.format), header)

    def _check_scans(self, data: bytes | bytearray | memoryview, header: ImageHeader) -> None:
        scans = count_scans(data, header.frame)
        work = scans * max(header.width * header.height, _LEAST_SCAN_PIXELS)
        if scans > 1 and work > self.max_scan_pixels:
            raise TooMuchDecoding(
                f"the JPEG has {scans} scans of {header.width}x{header.height} pixels, {work} in all; "
                f"the limit is {self.max_scan_pixels} (setting max_jpeg_scan_pixels)"
            )

    def _guarded(
        self,
        guard: DecoderGuard,
        data: bytes | bytearray | memoryview,
        header: ImageHeader,
        width: int,
        height: int,
    ) -> Decoded:
        options = {
            "order": self.order,
            "exact": self.exact,
            "max_pixels": self.max_pixels,
            "max_scan_pixels": self.max_scan_pixels,
            "width": width,
            "height": height,
        }
        channels = 1 if self.order == "GRAY" else 3
        pixels, said = guard.decode(options, data, header.width * header.height * channels, header.format)
        return Decoded(pixels, said["orientation"], said["width"], said["height"])

    def _jpeg(
        self, data: bytes | bytearray | memoryview, header: ImageHeader, width: int, height: int
    ) -> Decoded:
        upright = header.width, header.height
        if header.orientation > 4:
            width, height = height, width
            upright = header.height, header.width
        if self.exact:
            width = height = 0
        rows, columns = scaled_size(header.width, header.height, width, height)
        pixels: Pixels = np.empty((rows, columns, 1 if self.order == "GRAY" else 3), np.uint8)
        if not turbo_jpeg(data, header.frame, self.order, width, height, pixels):
            if self.guard is not None:
                return self._guarded(self.guard, data, header, 0, 0)
            return _stored(opencv_jpeg(data, header.frame, self._opencv_flags), header)
        return Decoded(
            pixels if self.order != "GRAY" else pixels[:, :, 0], header.orientation, upright[0], upright[1]
        )

    @property
    def _opencv_flags(self) -> int:
        return _OPENCV_FLAGS[self.order] | cv2.IMREAD_IGNORE_ORIENTATION

    def _opencv(self, data: bytes | bytearray | memoryview, header: ImageHeader) -> Decoded:
        if header.format == "BMP" and has_fields(memoryview(data)):
            return Decoded(self._ordered(decode_fields(memoryview(data))), 1, header.width, header.height)
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), self._opencv_flags)
        except cv2.error as error:
            raise UndecodableImage(f"the {header.format} cannot be decoded: {error.err}") from None
        if pixels is None:
            raise UndecodableImage(f"the {header.format} is damaged or truncated")
        return _stored(pixels, header)  # type: ignore[arg-type]  # u8, as no flag asks for another depth

    def _ordered(self, rgb: Pixels) -> Pixels:
        """RGB pixels in the order that is wanted."""
        if self.order == "GRAY":
            return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)  # type: ignore[return-value]
        return np.ascontiguousarray(rgb if self.order == "RGB" else rgb[:, :, ::-1])


def _stored(pixels: Pixels, header: ImageHeader) -> Decoded:
    """Pixels that are still to be turned as the header says."""
    height, width = pixels.shape[:2]
    if header.orientation > 4:
        return Decoded(pixels, header.orientation, height, width)
    return Decoded(pixels, header.orientation, width, height)


@lru_cache(1024)  # many pictures are of the same sizes
def scaled_size(width: int, height: int, least_width: int, least_height: int) -> tuple[int, int]:
    """Rows and columns that simplejpeg decodes a JPEG to: the fewest eighths that are large enough.

    Args:
        width: of the whole picture, as stored.
        height: the same.
        least_width: to be left of it, or of the whole width where that is less; 0: whatever the height needs.
        least_height: the same of the height; where both are 0, the whole picture.
    """
    across = 8 * (min(width, least_width) - 1) // width + 1 if least_width > 0 else 0
    down = 8 * (min(height, least_height) - 1) // height + 1 if least_height > 0 else 0
    eighths = max(across, down) or 8
    return -(-height * eighths // 8), -(-width * eighths // 8)
