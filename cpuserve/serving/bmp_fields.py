"""Decodes BMP pictures of 16 or 32 bits a pixel, whose colours are fields of bits of any place and width."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from cpuserve.errors import UndecodableImage, UnsupportedFormat

__all__ = ["bmp_size", "decode_fields", "has_fields"]

_RGB, _BIT_FIELDS, _ALPHA_BIT_FIELDS = 0, 3, 6
_FIELDS_OF_16 = (0x7C00, 0x3E0, 0x1F)
_OS2_HEADER, _HEADER, _OS2_HEADER_2 = 12, 40, 64
_WITH_MASKS = frozenset((52, 56, 108, 124))
_COMPRESSIONS = {1: "run lengths", 2: "run lengths", 4: "a JPEG inside", 5: "a PNG inside"}
_DEPTHS = {_RGB: (1, 4, 8, 16, 24, 32), 1: (8,), 2: (4,), _BIT_FIELDS: (16, 32), _ALPHA_BIT_FIELDS: (16, 32)}


def bmp_size(view: memoryview) -> tuple[int, int]:
    """Width and height.

    Raises:
        struct.error: it ends inside its header.
        UnsupportedFormat: it has a header, pixels or a compression that are not decoded.
    """
    size, width, height, bits, compression = _header(view)
    if size not in {_OS2_HEADER, _HEADER, _OS2_HEADER_2, *_WITH_MASKS}:
        raise UnsupportedFormat(
            f"BMP with a header of {size} bytes is not supported; send one with the usual header of 40 bytes"
        )
    if compression not in _DEPTHS or (size == _OS2_HEADER_2 and compression == _BIT_FIELDS):
        name = _COMPRESSIONS.get(compression, f"the compression number {compression}")
        raise UnsupportedFormat(f"BMP with {name} is not supported; send an uncompressed BMP or a PNG")
    if bits not in _DEPTHS[compression]:
        raise UnsupportedFormat(
            f"BMP with {bits} bits a pixel is not supported; send 24 bits a pixel, or a PNG"
        )
    if compression in (_BIT_FIELDS, _ALPHA_BIT_FIELDS):
        _masks(view)
    return width, abs(height)


def _masks(view: memoryview) -> tuple[int, int, int]:
    """The bits of red, green and blue.

    Raises:
        struct.error: it ends inside them.
    """
    red, green, blue = struct.unpack_from("<III", view, 54)
    return red, green, blue


def _header(view: memoryview) -> tuple[int, int, int, int, int]:
    """Bytes of the header, width, height (below 0: top down), bits a pixel, compression."""
    (size,) = struct.unpack_from("<I", view, 14)
    if size == _OS2_HEADER:
        width, height, _, bits = struct.unpack_from("<HHHH", view, 18)
        return size, width, height, bits, _RGB
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", view, 18)
    return size, width, height, bits, compression


def has_fields(view: memoryview) -> bool:
    """Whether its colours are fields of bits, which `decode_fields` decodes."""
    _, _, _, bits, compression = _header(view)
    return compression in (_BIT_FIELDS, _ALPHA_BIT_FIELDS) or (compression == _RGB and bits == 16)


def decode_fields(view: memoryview) -> npt.NDArray[np.uint8]:
    """The pixels, u8 [H, W, 3] in RGB.

    Args:
        view: a BMP for which `has_fields` is true.

    Raises:
        UndecodableImage: a mask has gaps or no bits, or the data end early.
    """
    _, width, height, bits, compression = _header(view)
    masks = _masks(view) if compression != _RGB else _FIELDS_OF_16
    (start,) = struct.unpack_from("<I", view, 10)
    stride = -(-width * bits // 32) * 4
    rows = abs(height)
    if start + stride * rows > len(view):
        raise UndecodableImage(f"the BMP is truncated: its pixels end at byte {start + stride * rows}")
    words = np.frombuffer(view, np.uint8, stride * rows, start).reshape(rows, stride)
    values = words.view("<u2" if bits == 16 else "<u4")[:, :width]
    found = np.empty((rows, width, 3), np.uint8)
    for channel, mask in enumerate(masks):
        low = (mask & -mask).bit_length() - 1
        most = mask >> low if mask else 0
        if not most or most & (most + 1) or mask >> bits:
            raise UndecodableImage(
                f"the BMP is damaged: {mask:#x} is no mask of a colour of {bits} bits a pixel"
            )
        field = (values & values.dtype.type(mask)) >> values.dtype.type(low)
        found[:, :, channel] = (field.astype(np.uint64) * 255 + most // 2) // most
    return found if height < 0 else found[::-1]
