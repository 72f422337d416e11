"""Headers and decoders of pictures: `python -m tests.fuzz image -max_total_time=600 -max_len=20000`.

Pictures are changed along their structure, and decoded in this process: a decoder that crashes is a finding.
Nothing that decodes may be larger than its header says, else the limit on pixels would not hold.
"""

from __future__ import annotations

import cv2
import numpy as np

from cpuserve.errors import CpuserveError
from cpuserve.serving.decode import Decoder
from cpuserve.serving.picture_header import read_header
from cpuserve.serving.preprocess import Resizer
from tests.attack_pictures import animated_png, animation, jpeg_of_scans, pages, sequential_jpeg_of_scans
from tests.fuzz.picture_mutators import mutate

__all__ = ["mutate", "one", "seeds"]

_MOST = 1_000_000
_DECODERS = (
    Decoder("RGB", exact=False, max_pixels=_MOST),
    Decoder("BGR", exact=True, max_pixels=_MOST),
    Decoder("GRAY", exact=False, max_pixels=_MOST),
)
_RESIZERS = (Resizer(24, 16), Resizer(16, 24, "crop"), Resizer(24, 24, "fit_to_window_letterbox"))


def one(data: bytes) -> None:
    decoder, resizer = _DECODERS[len(data) % 3], _RESIZERS[len(data) // 3 % 3]
    try:
        pixels, orientation, *_ = decoder.decode(data, resizer.width, resizer.height)
    except CpuserveError:
        return
    header = read_header(data)
    assert pixels.shape[0] * pixels.shape[1] <= header.width * header.height <= _MOST
    row = np.zeros((resizer.height, resizer.width, 1 if decoder.order == "GRAY" else 3), np.uint8)
    resizer.into(row, pixels, orientation)


def seeds() -> list[bytes]:
    rows, columns = np.mgrid[0:20, 0:30]
    pixels = np.stack([rows * 12, columns * 8, (rows ^ columns) * 8], axis=2).astype(np.uint8)
    kinds: list[tuple[str, list[int]]] = [
        (".jpg", []),
        (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 1]),
        (".png", []),
        (".bmp", []),
        (".gif", []),
        (".webp", [cv2.IMWRITE_WEBP_QUALITY, 50]),
        (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
        (".tiff", [cv2.IMWRITE_TIFF_COMPRESSION, cv2.IMWRITE_TIFF_COMPRESSION_LZW]),
        (".tiff", [cv2.IMWRITE_TIFF_COMPRESSION, cv2.IMWRITE_TIFF_COMPRESSION_NONE]),
    ]
    made = [cv2.imencode(kind, pixels, options)[1].tobytes() for kind, options in kinds]
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    turned = made[0][:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + made[0][2:]
    strange = [animated_png(), animation(".webp"), animation(".gif"), animation(".png"), pages()]
    return [*made, turned, *strange, jpeg_of_scans(9), sequential_jpeg_of_scans(9)]
