"""Reads the format, size and orientation of a picture from its first bytes, without decoding it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from cpuserve.errors import UndecodableImage, UnsupportedFormat

__all__ = ["FORMATS", "ImageHeader", "count_scans", "read_header", "tiff_directory"]

FORMATS = ("JPEG", "PNG", "WebP", "GIF", "TIFF", "BMP")

_ORIENTATION_TAG = 0x0112
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_STRIP_HEIGHT = 278
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_MOST_TIFF_PIECES = 1 << 16  # writers make strips of 8 KiB and more, or of one line
_MOST_TILE_PIXELS = 1 << 22
_TIFF_KINDS = {3: "H", 4: "I"}
_BIG_TIFF_KINDS = {**_TIFF_KINDS, 16: "Q"}
_MOST_PNG_CHUNKS = 1 << 16  # each costs a microsecond; writers make them of 8 KiB and more
_MOST_JPEG_SEGMENTS = 1 << 12  # a profile or a preview of some MB takes a hundred
_JPEG_SEGMENT = struct.Struct(">BBH").unpack_from
_JPEG_NO_LENGTH = frozenset((0x01, *range(0xD0, 0xD8)))  # TEM and RSTn stand alone
_JPEG_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # DHT, JPG and DAC are no frames


@dataclass(slots=True)  # neither frozen nor a tuple: either costs more to make, and each picture makes one
class ImageHeader:
    """Facts from the header of a picture.

    Attributes:
        format: one of `FORMATS`.
        width: pixels as stored, before the orientation is applied.
        height: pixels as stored.
        orientation: EXIF orientation 1-8 of a JPEG; 1 for the others, whose decoder applies it.
        frame: byte at which the frame header of a JPEG begins; 0 for the others.
    """

    format: str
    width: int
    height: int
    orientation: int = 1
    frame: int = 0


def read_header(data: bytes | bytearray | memoryview) -> ImageHeader:
    """Read the header of a picture.

    Args:
        data: the whole file.

    Raises:
        UnsupportedFormat: the first bytes are of no format in `FORMATS`.
        UndecodableImage: empty, or it ends or contradicts itself inside the header.
    """
    view = memoryview(data)
    if view.nbytes == 0:
        raise UndecodableImage("the picture is empty: 0 bytes")
    magic = bytes(view[:12])
    read = _jpeg if magic[:3] == b"\xff\xd8\xff" else _reader(magic)
    try:
        header = read(view)
    except (struct.error, IndexError, OverflowError):  # the last: an offset beyond any address
        raise UndecodableImage(
            f"the picture is damaged: it ends inside its header, after {len(view)} bytes"
        ) from None
    if header.width < 1 or header.height < 1:
        raise UndecodableImage(
            f"the picture is damaged: its header says {header.width}x{header.height} pixels"
        )
    return header


def _reader(magic: bytes) -> Callable[[memoryview], ImageHeader]:
    """Find the reader for the header of a picture other than JPEG, by its first twelve bytes.

    Raises:
        UnsupportedFormat: they are of no format in `FORMATS`.
    """
    for matches, read in _READERS:
        if matches(magic):
            return read
    raise UnsupportedFormat(
        f"the body is not a picture of a known format (first bytes {magic[:8]!r}); send {', '.join(FORMATS)}"
    )


def _jpeg(view: memoryview) -> ImageHeader:
    orientation, at = 0, 2
    for _ in range(_MOST_JPEG_SEGMENTS):
        length = view[at + 2] << 8 | view[at + 3]  # `struct` would be a call a segment
        marker = view[at + 1]
        if view[at] != 0xFF:
            raise UndecodableImage(f"the JPEG is damaged: no marker at byte {at}")
        if marker in _JPEG_FRAMES:
            height, width = view[at + 5] << 8 | view[at + 6], view[at + 7] << 8 | view[at + 8]
            return ImageHeader("JPEG", width, height, orientation or 1, at)
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _JPEG_NO_LENGTH:
            at += 2
            continue
        if marker == 0xE1 and not orientation and bytes(view[at + 4 : at + 10]) == b"Exif\0\0":
            orientation = _exif_orientation(view[at + 10 : at + 2 + length])
        elif marker in {0xD9, 0xDA}:
            raise UndecodableImage("the JPEG is damaged: its data begin before its frame header")
        at += 2 + length
    raise UndecodableImage(
        f"the JPEG is damaged: it has more than {_MOST_JPEG_SEGMENTS} segments before its frame header"
    )


def count_scans(data: bytes | bytearray | memoryview, header: ImageHeader) -> int:
    """The most scans that a decoder makes over a whole JPEG.

    A sequential JPEG has one scan where its first has all components: decoders stop behind it. Elsewhere
    every scan begins with FF DA, which may also stand in a block between scans.

    Args:
        data: the whole file.
        header: its own.
    """
    view, frame = memoryview(data), header.frame
    _, marker, length = _JPEG_SEGMENT(view, frame)
    at = start = frame + 2 + length
    for _ in range(0 if marker in _JPEG_PROGRESSIVE else _MOST_JPEG_SEGMENTS):
        if at + 5 > len(view):
            break
        mark, kind, length = _JPEG_SEGMENT(view, at)
        if mark == 0xFF and kind == 0xDA and view[at + 4] == view[frame + 9]:
            return 1
        if mark != 0xFF or kind == 0xDA:
            break
        at += 2 + length
    return max(1, bytes(view[start:]).count(b"\xff\xda"))


def _exif_orientation(tiff: memoryview) -> int:
    """Orientation of an EXIF block; a damaged block counts as none, as cameras' viewers do."""
    try:
        value = _tiff_tags(tiff, {_ORIENTATION_TAG}).get(_ORIENTATION_TAG, 1)
    except (struct.error, IndexError, OverflowError, UndecodableImage):
        return 1
    return value if 1 <= value <= 8 else 1


def tiff_directory(view: memoryview) -> tuple[str, bool, int, int]:
    """Where the first directory of a TIFF structure is.

    Returns:
        The order of bytes as `struct` writes it, whether it is a BigTIFF, the place of the first entry, and
        how many there are.

    Raises:
        struct.error: the structure ends before.
    """
    order = "<" if view[0] == 0x49 else ">"
    version, directory = struct.unpack_from(order + "HI", view, 2)
    big = version == 43
    if big:
        (directory,) = struct.unpack_from(order + "Q", view, 8)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), view, directory)
    return order, big, directory + (8 if big else 2), count


def _tiff_tags(view: memoryview, wanted: set[int]) -> dict[int, int]:
    """Values of SHORT, LONG and, in a BigTIFF, LONG8 tags in the first directory of a TIFF structure."""
    order, big, at, count = tiff_directory(view)
    step = 20 if big else 12
    kinds = _BIG_TIFF_KINDS if big else _TIFF_KINDS
    found: dict[int, int] = {}
    for _ in range(min(count, 4096)):
        tag, kind = struct.unpack_from(order + "HH", view, at)
        if tag in wanted:
            # the decoder would read some other kind or place than this, and find another size there
            if tag in found or kind not in kinds:
                raise UndecodableImage(f"the TIFF is damaged: tag {tag} is given twice, or not as a number")
            (found[tag],) = struct.unpack_from(order + kinds[kind], view, at + step - (8 if big else 4))
        at += step
    return found


def _tiff(view: memoryview) -> ImageHeader:
    tags = _tiff_tags(view, {_TIFF_WIDTH, _TIFF_HEIGHT, _STRIP_HEIGHT, _TILE_WIDTH, _TILE_HEIGHT})
    width, height = tags.get(_TIFF_WIDTH, 0), tags.get(_TIFF_HEIGHT, 0)
    tile = tags.get(_TILE_WIDTH, 0), tags.get(_TILE_HEIGHT, 0)
    if tile[0] * tile[1] > _MOST_TILE_PIXELS:  # a tile is decoded whole, however small the picture is
        raise UndecodableImage(
            f"the TIFF has tiles of {tile[0]}x{tile[1]} pixels; a tile has at most {_MOST_TILE_PIXELS}"
        )
    across, down = tile if all(tile) else (width, tags.get(_STRIP_HEIGHT, height))
    pieces = -(-width // max(1, across)) * -(-height // max(1, down))
    if pieces > _MOST_TIFF_PIECES:
        raise UndecodableImage(
            f"the TIFF has {pieces} strips or tiles, each decoded by itself; it may have {_MOST_TIFF_PIECES}"
        )
    if pieces > 1 and pieces * across * down > 2 * width * height + _MOST_TILE_PIXELS:
        raise UndecodableImage(
            f"the TIFF has {pieces} tiles of {across}x{down} pixels for {width}x{height}: most lie outside"
        )
    return ImageHeader("TIFF", width, height)


def _png(view: memoryview) -> ImageHeader:
    header = ImageHeader("PNG", *struct.unpack_from(">II", view, 16))
    at, end = 8, len(view)
    for _ in range(_MOST_PNG_CHUNKS):
        if at + 4 > end:
            return header  # cut short: the decoder decides whether it can be decoded
        (length,) = struct.unpack_from(">I", view, at)
        if at + 12 + length > end:
            # OpenCV makes room for what a chunk promises, up to 4 GiB, before it reads
            raise UndecodableImage(
                f"the PNG is damaged or truncated: a chunk of {length} bytes ends after it"
            )
        if bytes(view[at + 4 : at + 8]) == b"IEND":
            return header
        at += 12 + length
    raise UndecodableImage(f"the PNG is damaged: it has more than {_MOST_PNG_CHUNKS} chunks")


def _gif(view: memoryview) -> ImageHeader:
    return ImageHeader("GIF", *struct.unpack_from("<HH", view, 6))


def _bmp(view: memoryview) -> ImageHeader:
    (size,) = struct.unpack_from("<I", view, 14)
    width, height = struct.unpack_from("<HH" if size == 12 else "<ii", view, 18)
    return ImageHeader("BMP", width, abs(height))


def _webp(view: memoryview) -> ImageHeader:
    kind = bytes(view[12:16])
    if kind == b"VP8X":
        width = 1 + int.from_bytes(view[24:27], "little")
        height = 1 + int.from_bytes(view[27:30], "little")
        if len(view) < 30:
            raise IndexError
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", view, 21)
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif kind == b"VP8 ":
        width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", view, 26))
    else:
        raise IndexError
    return ImageHeader("WebP", width, height)


_READERS: tuple[tuple[Callable[[bytes], bool], Callable[[memoryview], ImageHeader]], ...] = (
    (lambda magic: magic[:8] == b"\x89PNG\r\n\x1a\n", _png),
    (lambda magic: magic[:4] == b"RIFF" and magic[8:12] == b"WEBP", _webp),
    (lambda magic: magic[:6] in (b"GIF87a", b"GIF89a"), _gif),
    (lambda magic: magic[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _tiff),
    (lambda magic: magic[:2] == b"BM", _bmp),
)
