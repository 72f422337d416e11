"""Decodes JPEG with libjpeg-turbo: by TurboJPEG's interface, and by OpenCV what that has no words for."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from cpuserve.errors import UndecodableImage, UnsupportedFormat
from cpuserve.serving.jpeg_header import plain_jpeg, sampling_factors, scans_end

__all__ = ["opencv_jpeg", "turbo_jpeg"]

Encoded = bytes | bytearray | memoryview

# Warnings of libjpeg-turbo, which says only the first: those that come without lost pixels, and with them.
_IN_SCANS = ("Invalid SOS parameters", "Inconsistent progression")
_HARMLESS = ("extraneous bytes", *_IN_SCANS)
_LOST = ("bad Huffman code", "bad arithmetic code", "premature end of data segment", "instead of RST")
_END = b"\xff\xd9"


def turbo_jpeg(
    data: Encoded, frame: int, order: str, width: int, height: int, into: npt.NDArray[np.uint8]
) -> bool:
    """Decode a JPEG, at least as large as is asked for.

    What the decoder complains of is taken out of the file where it makes no pixels, such as a colour profile
    or a lost end, and the rest is decoded again: the first complaint may hide another.

    Args:
        data: the whole file.
        frame: byte at which its frame header begins.
        order: RGB, BGR or GRAY.
        width: least width, pixels; 0 for all.
        height: least height, pixels.
        into: u8 [H, W, C] of the size that it is decoded to.

    Returns:
        False where TurboJPEG has no word for the sampling factors, as for 3x1; nothing is decoded then.

    Raises:
        UndecodableImage: damaged or truncated.
        UnsupportedFormat: libjpeg-turbo does not decode JPEG of this kind.
    """
    said = _decode(data, order, width, height, into)
    if not said:
        return True
    of_four = memoryview(data)[frame + 9] == 4
    if _any(_IN_SCANS, said):
        return not of_four or not _decode(data, order, width, height, into, strict=False)
    if not _any(_LOST, said):
        plain = _plain(data, frame)[0] + _END
        said = _decode(plain, order, width, height, into)
        if not said:
            return True
        if _is_unknown(plain):  # before a harmless warning counts: one about the header comes without pixels
            return False
        if _any(_HARMLESS, said):
            return not of_four or not _decode(plain, order, width, height, into, strict=False)
    if "Unsupported" in said and "marker" not in said:
        raise UnsupportedFormat(f"JPEG of this kind is not supported: {said}; send a baseline JPEG")
    raise UndecodableImage(f"the JPEG is damaged or truncated: {said}")


def opencv_jpeg(data: Encoded, frame: int, flags: int) -> npt.NDArray[np.uint8]:
    """Decode a JPEG of which `turbo_jpeg` returned False.

    Args:
        data: the whole file.
        frame: byte at which its frame header begins.
        flags: of ``cv2.imdecode``.

    Raises:
        UndecodableImage: damaged or truncated.
        UnsupportedFormat: libjpeg does not know its sampling factors either.
    """
    plain, start = _plain(data, frame)
    if not scans_end(plain, start):  # OpenCV would leave the rest grey
        raise UndecodableImage("the JPEG is damaged or truncated: its data do not go on to its end")
    pixels: Any = cv2.imdecode(np.frombuffer(plain, np.uint8), flags)
    if pixels is None:
        factors = ", ".join(sampling_factors(memoryview(data), frame))
        raise UnsupportedFormat(
            f"JPEG with the sampling factors {factors} is not supported; send one with 2x2, 2x1 or 1x1 for "
            "the first component and 1x1 for the others"
        )
    found: npt.NDArray[np.uint8] = pixels
    return found


def _decode(
    data: Encoded, order: str, width: int, height: int, into: npt.NDArray[np.uint8], *, strict: bool = True
) -> str:
    """What the decoder said, nothing where all was well.

    Errors, and warnings about the header, come before anything is decoded, other warnings when all is. But
    the four components of CMYK have not become the colours of ``into`` then, unless warnings are passed over.
    """
    options = {"min_width": width, "min_height": height, "min_factor": 1, "buffer": into, "strict": strict}
    try:
        simplejpeg.decode_jpeg(data, order, **options)
    except ValueError as error:
        return str(error)
    return ""


def _is_unknown(plain: bytes) -> bool:
    try:
        simplejpeg.decode_jpeg_header(plain)
    except ValueError:
        return True
    except KeyError:  # simplejpeg has no name for 4:4:1, which TurboJPEG decodes
        return False
    return False


def _any(words: tuple[str, ...], said: str) -> bool:
    return any(word in said for word in words)


def _plain(data: Encoded, frame: int) -> tuple[bytes, int]:
    """The JPEG without what makes no pixels, and where its data begin.

    Raises:
        UndecodableImage: it ends before they do.
    """
    try:
        return plain_jpeg(memoryview(data), frame)
    except IndexError:
        raise UndecodableImage("the JPEG is damaged or truncated: it ends before its data begin") from None
