"""Reads the size of a TIFF, and whether it is one that OpenCV decodes to what it says."""

from __future__ import annotations

import struct

from cpuserve.errors import UndecodableImage, UnsupportedFormat

__all__ = ["read_tiff", "tiff_directory", "tiff_entries"]

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIP_HEIGHT, _SAMPLES, _TILE_WIDTH, _TILE_HEIGHT, _COLOURS, _SAMPLE_FORMAT = 278, 277, 322, 323, 320, 339
_PLANES = 284
_NUMBERS = frozenset((_WIDTH, _HEIGHT, _STRIP_HEIGHT, _TILE_WIDTH, _TILE_HEIGHT))
_WANTED = _NUMBERS | {_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _COLOURS, _SAMPLE_FORMAT, _PLANES}
_MOST_PIECES = 1 << 16  # writers make strips of 8 KiB and more, or of one line
_MOST_TILE_PIXELS = 1 << 22
_TILE_STEP = 1024  # libtiff reads uncompressed tiles in these, and refuses what is left over
_MOST_ENTRIES = 4096
_KINDS = {3: "H", 4: "I"}
_BIG_KINDS = {**_KINDS, 16: "Q"}
_PALETTE = 3
_COMPRESSIONS = frozenset((1, 2, 3, 4, 5, 7, 8, 32773, 32946))
_COMPRESSION_NAMES = {
    6: "old-style JPEG",
    9: "JBIG",
    10: "JBIG",
    32809: "ThunderScan",
    34661: "JBIG",
    34676: "SGI LogLuv",
    34677: "SGI LogLuv",
    34712: "JPEG 2000",
    34925: "LZMA",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
}
_PHOTOMETRIC_NAMES = {
    4: "a transparency mask",
    8: "CIE Lab",
    9: "ICC Lab",
    10: "ITU Lab",
    32803: "a sensor's raw data",
    32844: "LogL",
    32845: "LogLuv",
    34892: "a sensor's raw data",
}
_FORMAT_NAMES = {2: "signed whole numbers", 3: "floats", 5: "complex whole numbers", 6: "complex floats"}
_ADVICE = "send grey or RGB of 8 bits a sample, uncompressed or with LZW, Deflate or PackBits"


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


def tiff_entries(view: memoryview, wanted: frozenset[int]) -> dict[int, tuple[int, int]]:
    """First values of tags of the first directory, and the places where they stand in the file.

    Args:
        view: the whole file.
        wanted: the tags.

    Raises:
        UndecodableImage: a tag that tells a size is there twice, or is no number.
    """
    order, big, at, count = tiff_directory(view)
    step, word = (20, 8) if big else (12, 4)
    kinds = _BIG_KINDS if big else _KINDS
    found: dict[int, tuple[int, int]] = {}
    for _ in range(min(count, _MOST_ENTRIES)):
        tag, kind, values = struct.unpack_from(order + ("HHQ" if big else "HHI"), view, at)
        if tag in wanted:
            # the decoder would read some other kind or place than this, and find another size there
            if tag in _NUMBERS and (tag in found or kind not in kinds):
                raise UndecodableImage(f"the TIFF is damaged: tag {tag} is given twice, or not as a number")
            if kind in kinds and tag not in found:
                place = at + step - word
                if values * struct.calcsize(kinds[kind]) > word and tag not in _NUMBERS:
                    (place,) = struct.unpack_from(order + ("Q" if big else "I"), view, place)
                found[tag] = (*struct.unpack_from(order + kinds[kind], view, place), place)
        at += step
    return found


def read_tiff(view: memoryview) -> tuple[int, int]:
    """Width and height.

    Raises:
        struct.error: it ends inside its header.
        UndecodableImage: its sizes contradict each other, or it has too many or too large parts.
        UnsupportedFormat: it has samples or a compression that are not decoded.
    """
    tags = {tag: value for tag, (value, _) in tiff_entries(view, _WANTED).items()}
    width, height = tags.get(_WIDTH, 0), tags.get(_HEIGHT, 0)
    tile = tags.get(_TILE_WIDTH, 0), tags.get(_TILE_HEIGHT, 0)
    if tile[0] * tile[1] > _MOST_TILE_PIXELS:  # a tile is decoded whole, however small the picture is
        raise UndecodableImage(
            f"the TIFF has tiles of {tile[0]}x{tile[1]} pixels; a tile has at most {_MOST_TILE_PIXELS}"
        )
    across, down = tile if all(tile) else (width, tags.get(_STRIP_HEIGHT, height))
    pieces = -(-width // max(1, across)) * -(-height // max(1, down))
    if pieces > _MOST_PIECES:
        raise UndecodableImage(
            f"the TIFF has {pieces} strips or tiles, each decoded by itself; it may have {_MOST_PIECES}"
        )
    if pieces > 1 and pieces * across * down > 2 * width * height + _MOST_TILE_PIXELS:
        raise UndecodableImage(
            f"the TIFF has {pieces} tiles of {across}x{down} pixels for {width}x{height}: most lie outside"
        )
    if width and height:
        _check_samples(tags)
    return width, height


def _check_samples(tags: dict[int, int]) -> None:
    """Refuse what OpenCV refuses without a reason, or decodes to black or to wrong colours.

    Raises:
        UnsupportedFormat: the samples or their compression.
        UndecodableImage: there is no palette.
    """
    bits, samples = tags.get(_BITS, 1), tags.get(_SAMPLES, 1)
    compression, photometric = tags.get(_COMPRESSION, 1), tags.get(_PHOTOMETRIC, 1)
    kind = tags.get(_SAMPLE_FORMAT, 1)
    if compression not in _COMPRESSIONS:
        name = _COMPRESSION_NAMES.get(compression, f"number {compression}")
        raise UnsupportedFormat(f"TIFF with the compression {name} is not supported; {_ADVICE}")
    if photometric in _PHOTOMETRIC_NAMES:
        raise UnsupportedFormat(
            f"TIFF with {_PHOTOMETRIC_NAMES[photometric]} as colours is not supported; {_ADVICE}"
        )
    if kind in _FORMAT_NAMES:
        raise UnsupportedFormat(f"TIFF with {_FORMAT_NAMES[kind]} is not supported; {_ADVICE}")
    if bits not in {1, 8, 16} and not (photometric == _PALETTE and bits == 4):
        raise UnsupportedFormat(f"TIFF with {bits} bits a sample is not supported; {_ADVICE}")
    if samples > 4:
        raise UnsupportedFormat(f"TIFF with {samples} samples a pixel is not supported; {_ADVICE}")
    size = tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_HEIGHT, 0) * bits // 8
    size *= samples if tags.get(_PLANES, 1) == 1 else 1
    if compression == 1 and size % _TILE_STEP:
        raise UnsupportedFormat(
            f"TIFF with uncompressed tiles of {size} bytes is not supported; compress it, or make the tiles "
            f"a multiple of {_TILE_STEP} bytes"
        )
    if photometric == _PALETTE and _COLOURS not in tags:
        raise UndecodableImage("the TIFF is damaged: it has no palette, which its pixels point into")
