"""Pictures as programs write them, good and odd, each made from its structure."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

FOUR = np.zeros((48, 64, 3), np.uint8)  # one colour a quarter, so that a turn shows
FOUR[:24, :32], FOUR[:24, 32:], FOUR[24:, :32], FOUR[24:, 32:] = (
    (220, 40, 40),
    (40, 200, 60),
    (40, 60, 220),
    (230, 220, 60),
)
RAMP = np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))
Pixels = npt.NDArray[np.uint8]
# codes of the sizes of DC differences, ITU T.81 table K.3
_SIZES = ["00", "010", "011", "100", "101", "110", *("1" * ones + "0" for ones in range(3, 9))]


def pillow(data: bytes) -> Pixels:
    """The pixels as Pillow decodes them, as stored."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def encoded(name: str, pixels: Pixels = FOUR, mode: str | None = None, **options: object) -> bytes:
    """A picture that Pillow wrote."""
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode or "RGB").save(out, name, **options)
    return out.getvalue()


def jpeg(mode: str | None = None, **options: object) -> bytes:
    """A JPEG of `FOUR`, hardly changed by its coding."""
    return encoded("JPEG", FOUR, mode, **{"quality": 95, "subsampling": 0, **options})


def segment(marker: int, body: bytes) -> bytes:
    """A segment of a JPEG."""
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def segments(data: bytes) -> tuple[list[bytes], bytes]:
    """The segments of a JPEG behind its first marker, the last of them that of its scan, and the data."""
    at, found = 2, []
    while True:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        found.append(data[at : at + 2 + length])
        at += 2 + length
        if found[-1][1] == 0xDA:
            return found, data[at:]


def with_segments(*more: bytes, data: bytes | None = None) -> bytes:
    """A JPEG with something behind its first segment."""
    found, rest = segments(data or jpeg())
    return b"\xff\xd8" + found[0] + b"".join(more) + b"".join(found[1:]) + rest


def changed(marker: int, change: dict[int, int], data: bytes | None = None) -> bytes:
    """A JPEG with other bytes in the segments of one marker."""
    found, rest = segments(data or jpeg())
    parts = [bytearray(part) for part in found]
    for part in parts:
        if part[1] == marker:
            for place, value in change.items():
                part[place] = value
    return b"\xff\xd8" + b"".join(parts) + rest


def flat_jpeg(
    factors: Sequence[tuple[int, int]], values: Sequence[int], width: int = 64, height: int = 48
) -> bytes:
    """A JPEG of one colour with any sampling factors, coded by hand.

    Args:
        factors: horizontal and vertical, of each component.
        values: of each component, by which it differs from the middle.
        width: pixels.
        height: pixels.
    """
    count = len(values)
    frame = b"".join(bytes([n + 1, factors[n][0] << 4 | factors[n][1], 0]) for n in range(count))
    head = segment(0xDB, b"\0" + b"\x08" * 64)
    head += segment(0xC0, b"\x08" + struct.pack(">HHB", height, width, count) + frame)
    head += segment(0xC4, bytes([0, 0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]) + bytes(range(12)))
    head += segment(0xC4, bytes([0x10, 0, 0, 0, 1] + [0] * 12) + b"\0")  # the only AC code: end of block
    head += segment(0xDA, bytes([count]) + b"".join(bytes([n + 1, 0]) for n in range(count)) + b"\0\x3f\0")
    bits, last = [], [0] * count
    across, down = max(h for h, _ in factors), max(v for _, v in factors)
    for _ in range(-(-width // (8 * across)) * -(-height // (8 * down))):
        for n, (h, v) in enumerate(factors):
            for _ in range(h * v):
                step, last[n] = values[n] - last[n], values[n]
                size = abs(step).bit_length()
                more = format(step if step > 0 else step + (1 << size) - 1, f"0{size}b") if size else ""
                bits.append(_SIZES[size] + more + "0000")
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    data = bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8)).replace(b"\xff", b"\xff\0")
    return b"\xff\xd8" + head + data + b"\xff\xd9"


def exif(
    orientation: int, order: str = "<", kind: int = 3, entries: int = 1, pad: int = 0, end: bytes = bytes(4)
) -> bytes:
    """EXIF data that tell an orientation.

    Args:
        orientation: 1-8.
        order: of bytes, as `struct` writes it.
        kind: of number: 1 BYTE, 3 SHORT, 4 LONG, 8 SSHORT, 9 SLONG.
        entries: how many the directory says that it has.
        pad: bytes before the directory.
        end: what follows the entries.
    """
    packed = struct.pack(order + {1: "B3x", 3: "H2x", 4: "I", 8: "h2x", 9: "i"}[kind], orientation)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + pad) + bytes(pad)
    return head + struct.pack(order + "HHHI", entries, 0x112, kind, 1) + packed + end


def webp(chunk: bytes, kind: bytes = b"EXIF", flags: int = 8) -> bytes:
    """A lossless WebP of `FOUR` with one more chunk."""
    body = b"WEBPVP8X" + struct.pack("<IBxxx", 10, flags) + (63).to_bytes(3, "little")
    body += (47).to_bytes(3, "little") + encoded("WEBP", lossless=True)[12:]
    body += kind + struct.pack("<I", len(chunk)) + chunk + bytes(len(chunk) & 1)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp(
    bits: int,
    rows: bytes,
    compression: int = 0,
    header: int = 40,
    masks: Sequence[int] = (),
    palette: bytes = b"",
    width: int = 64,
    height: int = 48,
) -> bytes:
    """A BMP of any header.

    Args:
        bits: a pixel.
        rows: the pixels, padded, from the bottom up.
        compression: 0 none, 1 and 2 run lengths, 3 fields of bits, 4 JPEG, 5 PNG.
        header: its size: 12 or 64 for OS/2, 40, 52, 56, 108, 124.
        masks: of red, green and blue, and of alpha.
        palette: of four bytes a colour, of three for the header of 12 bytes.
        width: pixels.
        height: pixels; below 0: the rows are from the top down.
    """
    if header == 12:
        head = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        head = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, compression, len(rows), 0, 0, 0, 0)
        head += struct.pack(f"<{len(masks)}I", *masks)
        head += bytes(max(0, header - len(head)))
    start = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + head + palette + rows


def tiff(
    bits: int,
    photometric: int,
    parts: bytes | list[bytes],
    samples: int = 1,
    *,
    order: str = "<",
    width: int = 64,
    height: int = 48,
    tile: tuple[int, int] | None = None,
    tags: dict[int, tuple[int, Sequence[int]]] | None = None,
) -> bytes:
    """A TIFF of one directory.

    Args:
        bits: a sample.
        photometric: 0 and 1 grey, 2 RGB, 3 palette, 5 CMYK.
        parts: of strips or tiles.
        samples: a pixel.
        order: of bytes, as `struct` writes it.
        width: pixels.
        height: pixels.
        tile: width and height of tiles.
        tags: more tags, as kind (3 SHORT, 4 LONG) and values.
    """
    parts = [parts] if isinstance(parts, bytes) else parts
    places = [8 + sum(map(len, parts[:number])) for number in range(len(parts))]
    sizes = [len(part) for part in parts]
    found: dict[int, tuple[int, Sequence[int]]] = {
        **{256: (4, [width]), 257: (4, [height]), 258: (3, [bits] * samples), 259: (3, [1])},
        **{262: (3, [photometric]), 277: (3, [samples])},
        **({322: (3, tile[:1]), 323: (3, tile[1:]), 324: (4, places), 325: (4, sizes)} if tile else {}),
        **({} if tile else {273: (4, places), 278: (4, [height]), 279: (4, sizes)}),
        **(tags or {}),
    }
    blob, entries = b"".join(parts), b""
    for tag, (kind, values) in sorted(found.items()):
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            place, blob = 8 + len(blob), blob + packed
            packed = struct.pack(order + "I", place)
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(blob))
    return head + blob + struct.pack(order + "H", len(found)) + entries + bytes(4)
