"""Walks the segments of a JPEG: its size, its scans, and the same JPEG without what decodes to nothing."""

from __future__ import annotations

import re
import struct

from cpuserve.errors import UndecodableImage, UnsupportedFormat
from cpuserve.serving.exif import exif_orientation

__all__ = ["JPEG_SIDE", "count_scans", "plain_jpeg", "read_jpeg", "sampling_factors", "scans_end"]

JPEG_SIDE = 65_500  # libjpeg's limit
_MOST_SEGMENTS = 1 << 12  # a profile or a preview of some MB takes a hundred
_SEGMENT = struct.Struct(">BBH").unpack_from
_NO_LENGTH = frozenset((0x01, *range(0xD0, 0xD8)))  # TEM and RSTn stand alone
_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_FRAMES = frozenset((0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA))
_OTHER_FRAMES = {
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical JPEG"),
    0xCB: "lossless JPEG with arithmetic coding",
    0xF7: "JPEG-LS",
}
_COMPONENTS = frozenset((1, 3, 4))
# JFIF and Adobe's segment, which tell the colours, quantisation, Huffman and arithmetic tables, restarts
_NEEDED = frozenset((0xE0, 0xEE, 0xDB, 0xC4, 0xCC, 0xDD, *_FRAMES))
_STEP = 1 << 12
_EXIF = b"Exif\0\0"
# neither a stuffed or fill byte, a restart, nor what may stand between scans
_NO_DATA = re.compile(rb"\xff[^\x00\xff\xd0-\xd7\xda-\xdd\xc4\xcc\xe0-\xef\xfe]", re.DOTALL)


def read_jpeg(view: memoryview) -> tuple[int, int, int, int]:
    """Width, height, EXIF orientation and the byte at which the frame header begins.

    What stands between segments is passed over as libjpeg does.

    Raises:
        IndexError: it ends before its frame header.
        UndecodableImage: it has none.
        UnsupportedFormat: its frame is of a kind that libjpeg-turbo does not decode.
    """
    orientation, at = 0, 2
    for _ in range(_MOST_SEGMENTS):
        length = view[at + 2] << 8 | view[at + 3]  # `struct` would be a call a segment
        marker = view[at + 1]
        if view[at] != 0xFF:
            at = _next_ff(view, at)
            continue
        if marker in _FRAMES:
            if view[at + 4] != 8 or view[at + 9] not in _COMPONENTS:
                raise _unsupported_samples(view, at)
            if length != 8 + 3 * view[at + 9]:
                raise UndecodableImage(f"the JPEG is damaged: its frame header has {length} bytes")
            height, width = view[at + 5] << 8 | view[at + 6], view[at + 7] << 8 | view[at + 8]
            if not 0 < height <= JPEG_SIDE or width > JPEG_SIDE:
                raise _unsupported_size(width, height)
            if not orientation and _EXIF in bytes(view[at : at + _STEP]):
                orientation = _late_orientation(view, at)
            return width, height, orientation or 1, at
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _NO_LENGTH or marker == 0:
            at += 2
            continue
        if marker == 0xE1 and not orientation and bytes(view[at + 4 : at + 10]) == _EXIF:
            orientation = exif_orientation(view[at + 10 : at + 2 + length])
        elif marker in {0xD8, 0xD9, 0xDA}:
            raise UndecodableImage("the JPEG is damaged: its data begin before its frame header")
        elif marker in _OTHER_FRAMES:
            raise UnsupportedFormat(
                f"{_OTHER_FRAMES[marker]} is not supported; send a baseline or progressive JPEG"
            )
        at += 2 + (length if length > 1 else 2)  # a length has two bytes itself, whatever it says
    raise UndecodableImage(
        f"the JPEG is damaged: it has more than {_MOST_SEGMENTS} segments before its frame header"
    )


def _late_orientation(view: memoryview, at: int) -> int:
    """Orientation of EXIF data behind the frame header at ``at`` and before the first scan; 0 for none."""
    for _ in range(_MOST_SEGMENTS):
        if at + 4 > len(view) or view[at] != 0xFF or view[at + 1] == 0xDA:
            break
        length = view[at + 2] << 8 | view[at + 3]
        if view[at + 1] == 0xE1 and bytes(view[at + 4 : at + 10]) == _EXIF:
            return exif_orientation(view[at + 10 : at + 2 + length])
        at += 2 + max(2, length)
    return 0


def _next_ff(view: memoryview, at: int) -> int:
    """The next byte FF behind ``at``.

    Raises:
        IndexError: there is none.
    """
    while at < len(view):
        found = bytes(view[at : at + _STEP]).find(b"\xff")
        if found >= 0:
            return at + found
        at += _STEP
    raise IndexError


def _unsupported_samples(view: memoryview, frame: int) -> UnsupportedFormat:
    bits, components = view[frame + 4], view[frame + 9]
    if bits != 8:
        return UnsupportedFormat(f"JPEG with {bits} bits a sample is not supported; send 8 bits a sample")
    return UnsupportedFormat(f"JPEG with {components} components is not supported; send 1, 3 or 4")


def _unsupported_size(width: int, height: int) -> UnsupportedFormat:
    if not height:
        return UnsupportedFormat(
            "JPEG that gives its height behind its data (DNL) is not supported; write it again with the "
            "height in its header"
        )
    return UnsupportedFormat(
        f"the JPEG has {width}x{height} pixels; the decoder takes sides of {JPEG_SIDE} at most: send a PNG "
        "or a part of it"
    )


def count_scans(data: bytes | bytearray | memoryview, frame: int) -> int:
    """The most scans that a decoder makes over a whole JPEG.

    A sequential JPEG has one scan where its first has all components: decoders stop behind it. Elsewhere
    every scan begins with FF DA, which may also stand in a block between scans.

    Args:
        data: the whole file.
        frame: byte at which its frame header begins.
    """
    view = memoryview(data)
    _, marker, length = _SEGMENT(view, frame)
    at = start = frame + 2 + length
    for _ in range(0 if marker in _PROGRESSIVE else _MOST_SEGMENTS):
        if at + 5 > len(view):
            break
        mark, kind, length = _SEGMENT(view, at)
        if mark == 0xFF and kind == 0xDA and view[at + 4] == view[frame + 9]:
            return 1
        if mark != 0xFF or kind == 0xDA:
            break
        at += 2 + length
    return max(1, bytes(view[start:]).count(b"\xff\xda"))


def sampling_factors(view: memoryview, frame: int) -> list[str]:
    """The sampling factors of the components, such as 2x1."""
    return [
        f"{view[frame + 11 + 3 * number] >> 4}x{view[frame + 11 + 3 * number] & 15}"
        for number in range(view[frame + 9])
    ]


def _as_expected(segment: bytes, components: int) -> bytes:
    """A segment; JFIF's with version 1, and Adobe's with a transform that the components can have."""
    if segment[1] == 0xE0 and segment[4:9] == b"JFIF\0" and segment[9:10] != b"\1":
        return segment[:9] + b"\1" + segment[10:]
    transform = 1 if components == 3 else 2
    if segment[1] == 0xEE and segment[4:9] == b"Adobe" and segment[15:16] not in (b"", b"\0"):
        return segment[:15] + bytes([transform]) + segment[16:]
    return segment


def scans_end(data: bytes, start: int) -> bool:
    """Whether the data of a JPEG go on to its end, without a marker that does not stand in data.

    Args:
        data: the JPEG.
        start: byte at which its data begin.
    """
    found = _NO_DATA.search(data, start)
    return found is not None and found[0] == b"\xff\xd9"


def plain_jpeg(view: memoryview, frame: int) -> tuple[bytes, int]:
    """The same JPEG with only the segments that make its pixels before its data, and where these begin.

    Profiles, previews, notes and stray bytes are left out: their damage is none of the pixels'.

    Args:
        view: a JPEG that `read_jpeg` has read.
        frame: byte at which its frame header begins.

    Raises:
        IndexError: it ends before its data begin.
        UndecodableImage: it has too many segments.
    """
    kept: list[bytes | memoryview] = [view[:2]]
    at = 2
    for _ in range(2 * _MOST_SEGMENTS):
        marker, length = view[at + 1], view[at + 2] << 8 | view[at + 3]
        if view[at] != 0xFF:
            at = _next_ff(view, at)
        elif marker == 0xFF:
            at += 1
        elif marker == 0xDA:
            head = b"".join(kept)
            return head + view[at:], len(head)
        elif marker in _NO_LENGTH or marker == 0:
            at += 2
        else:
            if marker in _NEEDED:
                kept.append(_as_expected(bytes(view[at : at + 2 + length]), view[frame + 9]))
            at += 2 + (length if length > 1 else 2)
    raise UndecodableImage(f"the JPEG is damaged: it has more than {2 * _MOST_SEGMENTS} segments")
