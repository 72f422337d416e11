"""Cuts a picture file down to its first image: no further frames or pages reach the decoder."""

from __future__ import annotations

import struct
from collections.abc import Callable

from cpuserve.errors import UndecodableImage
from cpuserve.serving.picture_header import gif_first_image
from cpuserve.serving.tiff_header import tiff_directory, tiff_entries

__all__ = ["first_image"]

Encoded = bytes | bytearray | memoryview

# Chunks that make pixels, and those too short to do harm; animation, text and profiles are left out.
_PNG_KEPT = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_PNG_SHORT = {b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"pHYs", b"tIME", b"bKGD", b"cICP"}
_SHORT_BYTES = 64
_MOST_BLOCKS = 1 << 18  # of a WebP
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_EXTRA_SAMPLES = 338
_SEPARATE_ALPHA = 2


def first_image(data: Encoded, kind: str) -> Encoded:
    """The file with its first image only; the same file where there is nothing else.

    Args:
        data: the whole file, whose header was read without an error.
        kind: its format.

    Raises:
        UndecodableImage: it ends inside its structure, or its first image needs another one.
    """
    cut = _CUTS.get(kind)
    if cut is None:
        return data
    try:
        return cut(memoryview(data))
    except (struct.error, IndexError, OverflowError):
        raise UndecodableImage(
            f"the {kind} is damaged or truncated: it ends inside its first image"
        ) from None


def _png(view: memoryview) -> Encoded:
    kept, at, end, whole = [view[:8]], 8, len(view), True
    while at + 12 <= end:
        length, kind = struct.unpack_from(">I4s", view, at)
        if (kind == b"IHDR") != (at == 8):
            raise UndecodableImage("the PNG is damaged: it does not begin with its only header")
        keep = kind in _PNG_KEPT or (kind in _PNG_SHORT and length <= _SHORT_BYTES)
        if keep:
            kept.append(view[at : at + 12 + length])
        else:
            whole = False
        at += 12 + length
        if kind == b"IEND":
            return view if whole else b"".join(kept)
    return b"".join((*kept, _PNG_END))  # a lost end takes no pixels with it


def _gif(view: memoryview) -> Encoded:
    width, height = struct.unpack_from("<HH", view, 6)
    at = start = gif_first_image(view)
    left, top, across, down, flags = struct.unpack_from("<HHHHB", view, at + 1)
    at += 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while size := view[at]:
        at += 1 + size
    at += 1
    right, bottom = left + across, top + down
    if right <= width and bottom <= height and bytes(view[at : at + 1]) == b"\x3b":
        return view
    # the screen is as large as the image; a decoder may trust the one for the size of the other
    screen = struct.pack("<HH", max(width, right), max(height, bottom))
    return b"".join((view[:6], screen, view[10:start], view[start:at], b"\x3b"))


def _webp(view: memoryview) -> Encoded:
    if bytes(view[12:16]) != b"VP8X":
        return view
    canvas, at, end = bytes(view[24:30]), 30, len(view)
    animated = bool(view[20] & 2)
    for _ in range(_MOST_BLOCKS):
        if at + 8 > end:
            break
        kind, length = struct.unpack_from("<4sI", view, at)
        if kind == b"ANMF":
            corner, size = bytes(view[at + 8 : at + 14]), bytes(view[at + 14 : at + 20])
            if any(corner) or size != canvas:
                raise UndecodableImage(
                    "the first frame of the animated WebP is a part of the picture only: send one whole frame"
                )
            return _still_webp(view[at + 24 : at + 8 + length], canvas)
        if kind == b"ANIM":
            animated = True
        at += 8 + length + length % 2
    if animated:
        raise UndecodableImage("the animated WebP is damaged: it has no frame")
    return view


def _still_webp(frame: memoryview, canvas: bytes) -> bytes:
    """A WebP of the chunks of one frame of an animation."""
    kept: list[memoryview | bytes] = []
    at = 0
    while at + 8 <= len(frame):
        kind, length = struct.unpack_from("<4sI", frame, at)
        padded = 8 + length + length % 2
        if kind in (b"ALPH", b"VP8 ", b"VP8L"):
            kept.append(frame[at : at + padded])
        at += padded
        if kind in (b"VP8 ", b"VP8L"):
            break
    if len(kept) > 1:
        kept.insert(0, struct.pack("<4sII", b"VP8X", 10, 0x10) + canvas)
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _tiff(view: memoryview) -> Encoded:
    order, big, entries, count = tiff_directory(view)
    at = entries + count * (20 if big else 12)
    (following,) = struct.unpack_from(order + ("Q" if big else "I"), view, at)
    extra, place = tiff_entries(view, frozenset((_EXTRA_SAMPLES,))).get(_EXTRA_SAMPLES, (0, 0))
    if not following and extra != _SEPARATE_ALPHA:
        return view
    alone = bytearray(view)
    struct.pack_into(order + ("Q" if big else "I"), alone, at, 0)
    if extra == _SEPARATE_ALPHA:  # libtiff would darken the colours by it; other formats' alpha is left out
        struct.pack_into(order + "H", alone, place, 0)
    return alone


_CUTS: dict[str, Callable[[memoryview], Encoded]] = {"PNG": _png, "GIF": _gif, "WebP": _webp, "TIFF": _tiff}
