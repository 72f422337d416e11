"""Finds the orientation in EXIF data, wherever a picture keeps them."""

from __future__ import annotations

import struct

__all__ = ["exif_orientation", "hex_profile"]

_ORIENTATION_TAG = 0x0112
_KINDS = {3: "H", 4: "I", 8: "h", 9: "i"}  # SHORT as the standard has it, and what writers put in its place
_PREFIX = b"Exif\0\0"
_MOST_ENTRIES = 4096


def exif_orientation(block: memoryview) -> int:
    """Orientation 1-8 of EXIF data; 0 where they are damaged or say nothing, as viewers take it.

    Args:
        block: a TIFF structure, with or without ``Exif\\0\\0`` before it; some programs write it twice.
    """
    while bytes(block[:6]) == _PREFIX:
        block = block[6:]
    order = {b"II": "<", b"MM": ">"}.get(bytes(block[:2]))
    if order is None:
        return 0
    try:
        (directory,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, directory)
        for entry in range(min(count, _MOST_ENTRIES)):  # a count that is too large does no harm
            at = directory + 2 + 12 * entry
            tag, kind, values = struct.unpack_from(order + "HHI", block, at)
            if tag == _ORIENTATION_TAG and kind in _KINDS and values:
                (value,) = struct.unpack_from(order + _KINDS[kind], block, at + 8)
                return value if 1 <= value <= 8 else 0
    except (struct.error, OverflowError):
        pass  # it ends early: what it would have said is not known
    return 0


def hex_profile(text: bytes) -> bytes:
    """The bytes of a profile that ImageMagick wrote into the text of a PNG; empty where it is none.

    Args:
        text: a new line, the profile's name, its length, and its bytes as hexadecimal digits, in lines.
    """
    parts = text.split(None, 2)
    try:
        return bytes.fromhex(parts[2].decode("ascii"))
    except (IndexError, ValueError):
        return b""
