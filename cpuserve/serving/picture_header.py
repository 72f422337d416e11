"""Reads the format, size and orientation of a picture from its first bytes, without decoding it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from cpuserve.errors import UndecodableImage, UnsupportedFormat
from cpuserve.serving.bmp_fields import bmp_size
from cpuserve.serving.exif import exif_orientation, hex_profile
from cpuserve.serving.jpeg_header import read_jpeg
from cpuserve.serving.other_formats import name_of
from cpuserve.serving.tiff_header import read_tiff

__all__ = ["FORMATS", "ImageHeader", "gif_first_image", "is_picture", "read_header"]

FORMATS = ("JPEG", "PNG", "WebP", "GIF", "TIFF", "BMP")

_MOST_PNG_CHUNKS = 1 << 16  # each costs a microsecond; writers make them of 8 KiB and more
_MOST_WEBP_CHUNKS = 1 << 12
_WEBP_EXIF = 8  # the flag that says so
_MOST_GIF_BLOCKS = 1 << 18  # of up to 255 bytes
_MOST_PROFILE_TEXT = 1 << 18  # of EXIF data as hexadecimal digits
_SIDES = {"PNG": 1_000_000, "WebP": 16_383}  # limits of libpng and of the format
_MOST_SIDE = 1 << 20  # OpenCV's
_PROFILE_NAMES = (b"Raw profile type exif\0", b"Raw profile type APP1\0")


@dataclass(slots=True)  # neither frozen nor a tuple: either costs more to make, and each picture makes one
class ImageHeader:
    """Facts from the header of a picture.

    Attributes:
        format: one of `FORMATS`.
        width: pixels as stored, before the orientation is applied.
        height: pixels as stored.
        orientation: EXIF orientation 1-8; 1 for a TIFF, whose decoder applies it.
        frame: byte at which the frame header of a JPEG begins; 0 for the others.
    """

    format: str
    width: int
    height: int
    orientation: int = 1
    frame: int = 0


def is_picture(data: memoryview) -> bool:
    """Whether data begin as a picture of one of `FORMATS` does."""
    magic = bytes(data[:12])
    return magic[:3] == b"\xff\xd8\xff" or any(matches(magic) for matches, _ in _READERS)


def read_header(data: bytes | bytearray | memoryview) -> ImageHeader:
    """Read the header of a picture.

    Args:
        data: the whole file.

    Raises:
        UnsupportedFormat: the first bytes are of no format in `FORMATS`, or of a variant that is not decoded.
        UndecodableImage: empty, or it ends or contradicts itself inside the header.
    """
    view = memoryview(data)
    if view.nbytes == 0:
        raise UndecodableImage("the picture is empty: 0 bytes")
    magic = bytes(view[:12])
    read = _jpeg if magic[:3] == b"\xff\xd8\xff" else _reader(magic, view)
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
    most = _SIDES.get(header.format, _MOST_SIDE)
    if header.width > most or header.height > most:
        raise UnsupportedFormat(
            f"the {header.format} has {header.width}x{header.height} pixels; the decoder takes sides of "
            f"{most} at most: send a part of it"
        )
    return header


def _reader(magic: bytes, view: memoryview) -> Callable[[memoryview], ImageHeader]:
    """Find the reader for the header of a picture other than JPEG, by its first twelve bytes.

    Raises:
        UnsupportedFormat: they are of no format in `FORMATS`.
    """
    for matches, read in _READERS:
        if matches(magic):
            return read
    name = name_of(view)
    if name:
        raise UnsupportedFormat(f"the body is {name}, which is not supported; send {', '.join(FORMATS)}")
    raise UnsupportedFormat(
        f"the body is not a picture of a known format (first bytes {magic[:8]!r}); send {', '.join(FORMATS)}"
    )


def _jpeg(view: memoryview) -> ImageHeader:
    return ImageHeader("JPEG", *read_jpeg(view))


def _tiff(view: memoryview) -> ImageHeader:
    return ImageHeader("TIFF", *read_tiff(view))


def _png(view: memoryview) -> ImageHeader:
    first = bytes(view[12:16])
    if first == b"CgBI":
        raise UnsupportedFormat(
            "PNG that Xcode has rewritten for iOS (CgBI) is not supported; send the PNG it was made from"
        )
    if first != b"IHDR" and len(first) == 4:
        raise UndecodableImage("the PNG is damaged: it does not begin with its only header")
    header = ImageHeader("PNG", *struct.unpack_from(">II", view, 16))
    at, end, orientation = 8, len(view), 0
    for _ in range(_MOST_PNG_CHUNKS):
        if at + 8 > end:
            break  # cut short: the decoder decides whether it can be decoded
        length, kind = struct.unpack_from(">I4s", view, at)
        if kind == b"IEND" and not length:
            break
        if at + 12 + length > end:
            # OpenCV makes room for what a chunk promises, up to 4 GiB, before it reads
            raise UndecodableImage(
                f"the PNG is damaged or truncated: a chunk of {length} bytes ends after it"
            )
        if kind in _PNG_EXIF and not orientation:
            orientation = _PNG_EXIF[kind](view[at + 8 : at + 8 + length])
        at += 12 + length
    else:
        raise UndecodableImage(f"the PNG is damaged: it has more than {_MOST_PNG_CHUNKS} chunks")
    header.orientation = orientation or 1
    return header


def _text_profile(chunk: memoryview) -> int:
    """Orientation of EXIF data in a text of a PNG, where ImageMagick kept them."""
    return _hex_orientation(bytes(chunk[len(_PROFILE_NAMES[0]) :])) if _is_profile(chunk) else 0


def _compressed_profile(chunk: memoryview) -> int:
    """The same of a compressed text."""
    if not _is_profile(chunk):
        return 0
    try:
        inflated = zlib.decompressobj().decompress(chunk[len(_PROFILE_NAMES[0]) + 1 :], _MOST_PROFILE_TEXT)
    except zlib.error:
        return 0  # damaged EXIF data count as none
    return _hex_orientation(inflated)


def _is_profile(chunk: memoryview) -> bool:
    return bytes(chunk[: len(_PROFILE_NAMES[0])]) in _PROFILE_NAMES


def _hex_orientation(text: bytes) -> int:
    return exif_orientation(memoryview(hex_profile(text[:_MOST_PROFILE_TEXT])))


_PNG_EXIF: dict[bytes, Callable[[memoryview], int]] = {
    b"eXIf": exif_orientation,
    b"tEXt": _text_profile,
    b"zTXt": _compressed_profile,
}


def gif_first_image(view: memoryview) -> int:
    """The byte at which the first image of a GIF begins.

    Raises:
        IndexError: the GIF ends before.
        UndecodableImage: something else is in its place.
    """
    flags = view[10]
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    blocks = 0
    while (kind := view[at]) == 0x21:
        at += 2
        while size := view[at]:
            at += 1 + size
            blocks += 1
            if blocks > _MOST_GIF_BLOCKS:
                raise UndecodableImage(f"the GIF is damaged: it has more than {_MOST_GIF_BLOCKS} blocks")
        at += 1
    if kind != 0x2C:
        raise UndecodableImage(f"the GIF is damaged: no block at byte {at}")
    return at


def _gif(view: memoryview) -> ImageHeader:
    width, height = struct.unpack_from("<HH", view, 6)
    at = gif_first_image(view)
    left, top, across, down = struct.unpack_from("<HHHH", view, at + 1)
    return ImageHeader("GIF", max(width, left + across), max(height, top + down))


def _bmp(view: memoryview) -> ImageHeader:
    return ImageHeader("BMP", *bmp_size(view))


def _webp(view: memoryview) -> ImageHeader:
    kind = bytes(view[12:16])
    orientation = 1
    if kind == b"VP8X":
        width = 1 + int.from_bytes(view[24:27], "little")
        height = 1 + int.from_bytes(view[27:30], "little")
        if len(view) < 30:
            raise IndexError
        orientation = (_webp_orientation(view) if view[20] & _WEBP_EXIF else 0) or 1
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", view, 21)
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif kind == b"VP8 ":
        width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", view, 26))
    else:
        raise IndexError
    return ImageHeader("WebP", width, height, orientation)


def _webp_orientation(view: memoryview) -> int:
    at, end = 30, len(view)
    for _ in range(_MOST_WEBP_CHUNKS):
        if at + 8 > end:
            break
        kind, length = struct.unpack_from("<4sI", view, at)
        if kind == b"EXIF":
            return exif_orientation(view[at + 8 : at + 8 + length])
        at += 8 + length + length % 2
    return 0


_READERS: tuple[tuple[Callable[[bytes], bool], Callable[[memoryview], ImageHeader]], ...] = (
    (lambda magic: magic[:8] == b"\x89PNG\r\n\x1a\n", _png),
    (lambda magic: magic[:4] == b"RIFF" and magic[8:12] == b"WEBP", _webp),
    (lambda magic: magic[:6] in (b"GIF87a", b"GIF89a"), _gif),
    (lambda magic: magic[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _tiff),
    (lambda magic: magic[:2] == b"BM", _bmp),
)
