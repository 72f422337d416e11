"""Changes pictures along their structure: what is changed lies behind right lengths and checksums.

A change of single bytes ends at a wrong CRC or length in nearly every PNG, WebP or GIF, and never reaches the
code behind it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from random import Random

from tests.attack_pictures import (
    animated_png,
    animation,
    chunk,
    jpeg_of_scans,
    pages,
    sequential_jpeg_of_scans,
)

__all__ = ["mutate", "parts_of"]

Part = tuple[bytes, bytes]  # what it is, and what it holds
Change = Callable[[bytes, int], bytes]

_PNG = b"\x89PNG\r\n\x1a\n"
_NUMBERS = (0, 1, 2, 7, 8, 255, 256, 32_767, 65_535, 65_536, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
_LONGEST_LINES = 1 << 20  # inflated data of a PNG that are changed


def mutate(data: bytes, most: int, seed: int, change: Change) -> bytes:
    """A picture like ``data`` with a few of its parts changed, left out, repeated, moved or added.

    Args:
        data: any bytes; those that are no picture are changed by ``change`` alone.
        most: bytes of what is given back.
        seed: the same gives the same.
        change: changes the bytes of one part, to at most so many.
    """
    random = Random(seed)  # noqa: S311  # it has to be repeatable, not secret
    split = parts_of(data)
    if split is None or random.random() < 0.1:
        return change(data, most)
    kind, parts = split
    for _ in range(random.randint(1, 3)):
        parts = _changed(kind, parts, random, change, most)
    made = _BUILD[kind](parts)
    return made if len(made) <= most else change(data, most)


def parts_of(data: bytes) -> tuple[str, list[Part]] | None:
    """The format of a picture and its parts; None where they cannot be told apart."""
    for kind, magic, split in _SPLIT:
        if data.startswith(magic):
            try:
                return kind, split(data)
            except (struct.error, IndexError):
                return None
    return None


def _changed(kind: str, parts: list[Part], random: Random, change: Change, most: int) -> list[Part]:
    parts = list(parts)
    at = random.randrange(len(parts)) if parts else 0
    what = random.choice(("bytes", "bytes", "number", "drop", "repeat", "move", "add"))
    if not parts or what == "add":
        parts.insert(at, random.choice(_STRANGE[kind]))
    elif what == "bytes":
        name, held = parts[at]
        parts[at] = name, _inside(name, held, change, most)
    elif what == "number":
        name, held = parts[at]
        size = random.choice((1, 2, 4))
        if len(held) >= size:
            place = random.randrange(min(len(held) - size + 1, 64))
            number = (random.choice(_NUMBERS) & ((1 << 8 * size) - 1)).to_bytes(size, "big")
            number = random.choice((number, number[::-1]))
            parts[at] = name, held[:place] + number + held[place + size :]
    elif what == "drop":
        del parts[at]
    elif what == "repeat":
        parts[at:at] = [parts[at]] * random.choice((1, 1, 2, 50))
    else:
        parts.insert(random.randrange(len(parts)), parts.pop(at))
    return parts


def _inside(name: bytes, held: bytes, change: Change, most: int) -> bytes:
    """The bytes of a part changed; those of compressed lines are changed before they are compressed."""
    if name not in (b"IDAT", b"fdAT"):
        return change(held, most) if held else held
    head, body = (held[:4], held[4:]) if name == b"fdAT" else (b"", held)
    try:
        lines = zlib.decompressobj().decompress(body, _LONGEST_LINES)
    except zlib.error:
        return change(held, most) if held else held
    return head + zlib.compress(change(lines, _LONGEST_LINES) if lines else lines)


def _split_png(data: bytes) -> list[Part]:
    parts, at = [], 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        parts.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return parts


def _build_png(parts: list[Part]) -> bytes:
    return _PNG + b"".join(chunk(kind, held) for kind, held in parts)


def _split_webp(data: bytes) -> list[Part]:
    parts, at = [], 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        parts.append((kind, data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return parts


def _build_webp(parts: list[Part]) -> bytes:
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(held)) + held + b"\0" * (len(held) % 2) for kind, held in parts
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _split_gif(data: bytes) -> list[Part]:
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    parts = [(b"head", data[:at])]
    while data[at] in b"\x21\x2c":
        start, at = at, at + 2
        if data[start] == 0x2C:
            flags = data[start + 9]
            at = start + 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
        head, held = data[start:at], b""
        while size := data[at]:
            held += data[at + 1 : at + 1 + size]
            at += 1 + size
        at += 1
        parts.append((head, held))
    return parts


def _build_gif(parts: list[Part]) -> bytes:
    made = b""
    for head, held in parts:
        if head == b"head":
            made += held
            continue
        pieces = [held[at : at + 255] for at in range(0, len(held), 255)]
        made += head + b"".join(bytes([len(piece)]) + piece for piece in pieces) + b"\0"
    return made + b"\x3b"


def _split_jpeg(data: bytes) -> list[Part]:
    parts, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xD9:
        (length,) = struct.unpack_from(">H", data, at + 2)
        parts.append((data[at : at + 2], data[at + 4 : at + 2 + length]))
        at += 2 + length
        if parts[-1][0] == b"\xff\xda":
            end = at
            while end + 1 < len(data) and (data[end] != 0xFF or data[end + 1] in (0, *range(0xD0, 0xD8))):
                end += 1
            parts.append((b"data", data[at:end]))
            at = end
    return parts


def _build_jpeg(parts: list[Part]) -> bytes:
    made = b"\xff\xd8"
    for kind, held in parts:
        made += held if kind == b"data" else kind + struct.pack(">H", (len(held) + 2) & 0xFFFF) + held
    return made + b"\xff\xd9"


def _split_tiff(data: bytes) -> list[Part]:
    order = "<" if data[0] == 0x49 else ">"
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, directory)
    entries = [data[directory + 2 + 12 * number :][:12] for number in range(count)]
    return [(b"head", data), *((b"entry", entry) for entry in entries if len(entry) == 12)]


def _build_tiff(parts: list[Part]) -> bytes:
    """The old file with another directory behind it."""
    head = b"".join(held for kind, held in parts if kind == b"head") or b"II*\0\0\0\0\0"
    order = "<" if head[:1] == b"I" else ">"
    entries = [held.ljust(12, b"\0")[:12] for kind, held in parts if kind == b"entry"]
    entries.sort(key=lambda entry: struct.unpack_from(order + "H", entry)[0])
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)
    return head[:4] + struct.pack(order + "I", max(8, len(head))) + head[8:] + directory


def _split_bmp(data: bytes) -> list[Part]:
    (size,) = struct.unpack_from("<I", data, 14)
    end = min(14 + max(4, size), len(data))
    return [(b"file", data[2:14]), (b"info", data[14:end]), (b"pixels", data[end:])]


def _build_bmp(parts: list[Part]) -> bytes:
    return b"BM" + b"".join(held for _, held in parts)


_SPLIT: tuple[tuple[str, bytes, Callable[[bytes], list[Part]]], ...] = (
    ("PNG", _PNG, _split_png),
    ("WebP", b"RIFF", _split_webp),
    ("GIF", b"GIF8", _split_gif),
    ("JPEG", b"\xff\xd8", _split_jpeg),
    ("TIFF", b"II*\0", _split_tiff),
    ("TIFF", b"MM\0*", _split_tiff),
    ("BMP", b"BM", _split_bmp),
)
_BUILD: dict[str, Callable[[list[Part]], bytes]] = {
    "PNG": _build_png,
    "WebP": _build_webp,
    "GIF": _build_gif,
    "JPEG": _build_jpeg,
    "TIFF": _build_tiff,
    "BMP": _build_bmp,
}
# Parts that a picture of that format may have though most have none.
_STRANGE: dict[str, list[Part]] = {
    "PNG": [
        *_split_png(animated_png(8, 8)),
        (b"tRNS", bytes(6)),
        (b"tRNS", bytes(256)),
        (b"PLTE", bytes(768)),
        (b"bKGD", bytes(6)),
        (b"eXIf", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"),
        (b"iCCP", b"x\0\0" + zlib.compress(bytes(4000))),
        (b"zTXt", b"x\0\0" + zlib.compress(bytes(4000))),
        (b"gAMA", bytes(4)),
        (b"sBIT", b"\1\2\3"),
        (b"cHRM", bytes(32)),
    ],
    "WebP": [
        *_split_webp(animation(".webp", 2, 8, 8)),
        (b"ALPH", b"\1" + bytes(20)),
        (b"EXIF", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"),
        (b"ICCP", bytes(200)),
    ],
    "GIF": [
        *_split_gif(animation(".gif", 2, 8, 8)),
        (b"\x21\xff", b"NETSCAPE2.0\1\0\0"),
        (b"\x21\xfe", b"x"),
    ],
    "JPEG": [
        *_split_jpeg(jpeg_of_scans(2, 8, 8)),
        *_split_jpeg(sequential_jpeg_of_scans(2, 8, 8)),
        (b"\xff\xdd", b"\0\1"),
        (b"\xff\xcc", b"\0\x10"),
        (b"\xff\xee", b"Adobe\0\x64\0\0\0\0\2"),
    ],
    "TIFF": [
        *(part for part in _split_tiff(pages(1, 8, 8)) if part[0] == b"entry"),
        *(
            (b"entry", struct.pack("<HHII", tag, 4, 1, value))
            for tag, value in (
                *((259, scheme) for scheme in (2, 3, 4, 5, 7, 8, 32_773, 32_946, 50_000)),
                *((262, space) for space in (0, 1, 3, 5, 6, 8)),
                *((258, 1), (258, 4), (258, 16), (277, 4), (284, 2), (317, 2), (317, 3), (339, 3), (338, 1)),
                *((322, 16), (323, 16), (324, 8), (325, 64), (278, 1), (330, 8), (34_665, 8), (530, 0x20002)),
            )
        ),
    ],
    "BMP": [
        (b"pixels", b"\0\1"),
        (b"pixels", b"\0\2\xff\xff"),
        (b"pixels", b"\xff\1" * 9),
        (b"info", bytes(64)),
    ],
}
