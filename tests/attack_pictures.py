"""Pictures made to harm a decoder, each built from its structure."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*more: bytes, before: tuple[bytes, ...] = (), width: int = 64, height: int = 48) -> bytes:
    """A grey-red RGB PNG with chunks before and behind its IDAT."""
    lines = b"".join(b"\0" + b"\x50\x20\x10" * width for _ in range(height))
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
            *before,
            chunk(b"IDAT", zlib.compress(lines)),
            *more,
            chunk(b"IEND", b""),
        )
    )


def animated_png(width: int = 64, height: int = 48) -> bytes:
    """An APNG whose second frame has a filter that does not exist; OpenCV 4.14 ends by SIGSEGV on it."""
    bad = b"".join(b"\x07" + bytes(width * 3) for _ in range(height))
    frame = struct.pack(">IIIIIHHBB", 0, width, height, 0, 0, 0, 0, 0, 0)
    return png(
        chunk(b"fcTL", frame),
        chunk(b"fdAT", struct.pack(">I", 1) + zlib.compress(bad)),
        before=(chunk(b"acTL", struct.pack(">II", 3, 0)),),
    )


def jpeg_of_scans(scans: int, width: int = 64, height: int = 48, frame: int = 0xC2) -> bytes:
    """A progressive grey JPEG whose scans have nothing but ends of bands, thousands of blocks each."""
    tables = b"".join(
        b"\xff\xc4" + struct.pack(">HB", 20, number) + bytes([1] + [0] * 15) + value
        for number, value in ((0, b"\0"), (0x10, b"\xe0"))
    )
    head = b"\xff\xd8\xff\xdb" + struct.pack(">HB", 67, 0) + bytes([1] * 64)
    head += b"\xff" + bytes([frame]) + struct.pack(">HBHHB", 11, 8, height, width, 1) + bytes([1, 0x11, 0])
    blocks = -(-width // 8) * -(-height // 8)
    data = bytes((-(-blocks // 16384) * 15 + 7) // 8)
    scan = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 1, 63, 0x10) + data
    return head + tables + scan * scans + b"\xff\xd9"


def sequential_jpeg_of_scans(scans: int, width: int = 64, height: int = 48) -> bytes:
    """A baseline JPEG of two components of which the first is sent again and again, a scan each time."""
    head = b"\xff\xd8\xff\xdb" + struct.pack(">HB", 67, 0) + bytes([1] * 64)
    head += b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3)
    head += bytes([1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0])
    for number in (0, 0x10):
        head += b"\xff\xc4" + struct.pack(">HB", 20, number) + bytes([1] + [0] * 15) + b"\0"
    blocks = -(-width // 8) * -(-height // 8)
    data = bytes(-(-blocks * 2 // 8))
    return head + (b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 0, 63, 0) + data) * scans + b"\xff\xd9"


def animation(extension: str, frames: int = 3, width: int = 64, height: int = 48) -> bytes:
    """An animation of frames of one colour each, the first of them (200, 60, 20) in BGR."""
    made = cv2.Animation()
    colours = [(200, 60, 20), (20, 200, 60), (60, 20, 200)]
    made.frames = [np.full((height, width, 3), colours[number % 3], np.uint8) for number in range(frames)]
    made.durations = [100] * frames
    done, data = cv2.imencodeanimation(extension, made)
    assert done
    return bytes(data.tobytes())


def pages(count: int = 3, width: int = 64, height: int = 48) -> bytes:
    """A TIFF of pages of one colour each, the first of them (200, 60, 20) in BGR."""
    done, data = cv2.imencodemulti(
        ".tiff", [np.full((height, width, 3), (200 - number, 60, 20), np.uint8) for number in range(count)]
    )
    assert done
    return bytes(data.tobytes())
