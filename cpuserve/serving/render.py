"""Draws answers over the picture that was sent, and segmentation masks as palette PNGs."""

from __future__ import annotations

import dataclasses
import struct
import zlib
from functools import cache
from typing import Any

import cv2
import numpy as np

from cpuserve.errors import CpuserveError
from cpuserve.serving.decode import Decoder, Pixels
from cpuserve.serving.picture_input import Encoded
from cpuserve.serving.postprocess import Answer
from cpuserve.serving.postprocess.segmentation import NOT_SEEN
from cpuserve.serving.preprocess import Resizer

__all__ = ["colours", "draw_answer", "mask_png", "overlay_png", "upright"]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_OPACITY = 0.5
_PNG_LEVEL = 1  # photos shrink by an eighth more at 3, and take half as long again
_LINES = 5  # names written on a picture that was classified
_SHOWN = 0.005  # least share that is written: two digits of a smaller one are zeros


@cache
def colours() -> Pixels:
    """A colour for each class, RGB u8 [256, 3]: those of the PASCAL VOC development kit, 0 is black."""
    found = np.zeros((256, 3), np.uint8)
    for index in range(256):
        rest = index
        for bit in range(7, -1, -1):  # three bits of the number at a time, the low ones make the high bits
            found[index] |= np.array([(rest >> channel & 1) << bit for channel in range(3)], np.uint8)
            rest >>= 3
    return found


def upright(picture: Encoded, decoder: Decoder) -> Pixels:
    """The whole picture, upright, BGR u8 [H, W, 3].

    Args:
        picture: the encoded file.
        decoder: the model's; its limit counts.

    Raises:
        RequestError: it is not a picture, is damaged, or is too large.
    """
    whole = dataclasses.replace(decoder, order="BGR", exact=True)
    pixels, orientation, width, height = whole.decode(picture)
    if orientation == 1:
        return pixels
    turned: Pixels = np.empty((height, width, 3), np.uint8)
    Resizer(width, height).into(turned, pixels, orientation)
    return turned


def overlay_png(pixels: Pixels, answer: Answer, mask: Pixels | None = None) -> bytes:
    """The answer, drawn over the picture as `draw_answer` does it, as a PNG."""
    draw_answer(pixels, answer, mask)
    return _png(pixels)


def draw_answer(pixels: Pixels, answer: Answer, mask: Pixels | None = None) -> None:
    """Draw the answer over the picture; boxes that were tracked have the numbers of their tracks.

    Args:
        pixels: the picture, BGR u8 [H, W, 3]; drawn on.
        answer: the model's.
        mask: the class of each pixel, u8 [H, W]; class 0 and what the model was not shown stay as they are.
    """
    if mask is not None:
        _tint(pixels, mask)
    # lines and letters grow with the picture, so that they can be read when it is looked at whole
    scale = max(0.4, min(pixels.shape[:2]) / 900)
    for row in reversed(answer.get("detections", [])):  # the best comes last and lies on top
        _box(pixels, row, scale)
    for row in answer.get("keypoints", []):
        x, y = (round(value) for value in row["point"])
        cv2.circle(pixels, (x, y), max(2, round(5 * scale)), _bgr(row["class_id"]), cv2.FILLED, cv2.LINE_AA)
    lines = [(row, row["probability"], _bgr(row["class_id"])) for row in answer.get("predictions", [])]
    lines += [(row, row["area"], _bgr(row["class_id"] - 1)) for row in answer.get("classes", [])]
    if "text" in answer:
        lines.append(({"label": answer["text"]}, answer["probability"], _bgr(0)))
    lines = [line for line in lines[:_LINES] if line[1] >= _SHOWN]
    for place, (row, share, colour) in enumerate(lines, 1):
        _words(pixels, f"{row['label']} {share:.2f}", (0, round(place * 30 * scale)), colour, scale)


def mask_png(mask: Pixels) -> bytes:
    """The class ids as a PNG with a palette: a byte a pixel, shown in `colours`.

    Args:
        mask: u8 [H, W].
    """
    height, width = mask.shape
    lines = np.zeros((height, width + 1), np.uint8)  # each line begins with its filter: 0, none
    lines[:, 1:] = mask
    depth, indexed = 8, 3
    head = struct.pack(">IIBBBBB", width, height, depth, indexed, 0, 0, 0)
    chunks = [
        (b"IHDR", head),
        (b"PLTE", colours().tobytes()),
        (b"IDAT", zlib.compress(lines.tobytes(), _PNG_LEVEL)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def _bgr(index: int) -> tuple[int, int, int]:
    """The colour of a class to draw with: the one behind its own in a mask, so that class 0 is not black."""
    red, green, blue = colours()[(index + 1) % 256].tolist()
    return blue, green, red


def _tint(pixels: Pixels, mask: Pixels) -> None:
    amount = np.full(256, _OPACITY, np.float32)
    amount[[0, NOT_SEEN]] = 0
    table = colours()[:, ::-1]
    for line, classes in zip(pixels, mask, strict=True):  # line by line: no second picture in memory
        share = amount[classes][:, None]
        line[:] = line * (1 - share) + table[classes] * share


def _box(pixels: Pixels, row: dict[str, Any], scale: float) -> None:
    left, top, right, bottom = (round(value) for value in row["box"])
    colour = _bgr(row["class_id"])
    cv2.rectangle(pixels, (left, top), (right - 1, bottom - 1), colour, max(1, round(3 * scale)))
    track = f"#{row['track_id']} " if row.get("track_id") is not None else ""
    _words(pixels, f"{track}{row['label']} {row['probability']:.2f}", (left, top), colour, scale)


def _words(
    pixels: Pixels, text: str, corner: tuple[int, int], colour: tuple[int, int, int], scale: float
) -> None:
    """Text on the colour, its lower left corner at ``corner`` as far as the picture allows."""
    text = text.encode("ascii", "replace").decode()  # OpenCV's fonts have no other letters
    size, thickness = 0.8 * scale, max(1, round(1.6 * scale))
    (width, height), below = cv2.getTextSize(text, _FONT, size, thickness)
    edge = max(1, round(3 * scale))
    left = max(0, min(corner[0], pixels.shape[1] - width - 2 * edge))
    top = max(0, min(corner[1], pixels.shape[0]) - height - below - edge)
    end = left + width + 2 * edge, top + height + below + edge
    cv2.rectangle(pixels, (left, top), end, colour, cv2.FILLED)
    blue, green, red = colour
    ink = (0, 0, 0) if 0.114 * blue + 0.587 * green + 0.299 * red > 128 else (255, 255, 255)
    cv2.putText(pixels, text, (left + edge, top + edge + height), _FONT, size, ink, thickness, cv2.LINE_AA)


def _png(pixels: Pixels) -> bytes:
    written, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, _PNG_LEVEL])
    if not written:
        raise CpuserveError(f"OpenCV could not write a PNG of {pixels.shape[1]}x{pixels.shape[0]} pixels")
    return data.tobytes()
