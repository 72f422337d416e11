"""What Frigate's ZMQ detector sends, and what it reads of an answer.

A client sends a JSON object and, behind it, bytes in a part of their own:

    {"model_request": true, "model_name": NAME}                       is the model there?
    {"model_data": true, "model_name": NAME}, the model's file        take it
    {"shape": [...], "dtype": "uint8", "model_type": ...}, values     which objects are in the picture?

The first two are answered by a JSON object, the last by one with shape and type, and the values f32 [20, 6].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from cpuserve.errors import RequestError
from cpuserve.serving.decode import Pixels

__all__ = [
    "ROWS",
    "DetectorMessage",
    "ModelQuestion",
    "ModelUpload",
    "PictureMessage",
    "answer_parts",
    "object_rows",
    "read",
    "refusal_parts",
]

ROWS = 20
"""Objects in an answer: Frigate has room for so many."""

_COLUMNS = 6  # class, score, top, left, bottom and right
_ANSWER = {"shape": [ROWS, _COLUMNS], "dtype": "float32"}
_ANSWER_HEADER = orjson.dumps(_ANSWER)
_HEADER_BYTES = 1 << 16
_TYPES = {"uint8": np.uint8, "float32": np.float32}
_INT, _FLOAT = "int", "float or float_denorm"


@dataclass(frozen=True)
class ModelQuestion:
    """Asks whether a model is there and loaded.

    Attributes:
        name: of the model's file at the client.
    """

    name: str


@dataclass(frozen=True)
class ModelUpload:
    """Brings a model's file.

    Attributes:
        name: of the file.
    """

    name: str


@dataclass(frozen=True)
class PictureMessage:
    """Asks for the objects of a picture.

    Attributes:
        pixels: u8 [H, W, 3], in RGB order where Frigate's ``input_pixel_format`` is left at its default.
    """

    pixels: Pixels


DetectorMessage = ModelQuestion | ModelUpload | PictureMessage


def read(parts: Sequence[bytes | memoryview]) -> DetectorMessage:
    """What a client wants.

    Args:
        parts: of its message.

    Raises:
        RequestError: it is no message of Frigate's detector.
    """
    header = _header(parts)
    name = header.get("model_name")
    shown = name[:200] if isinstance(name, str) else ""
    if header.get("model_request"):
        return ModelQuestion(shown)
    if len(parts) != 2:
        raise RequestError(f"a picture is a message of 2 parts, JSON and values; {len(parts)} were sent")
    if header.get("model_data"):
        return ModelUpload(shown)
    return PictureMessage(_pixels(header, parts[1]))


def answer_parts(objects: bytes) -> list[bytes]:
    """The parts of an answer about a picture.

    Args:
        objects: the bytes of `object_rows`.
    """
    return [_ANSWER_HEADER, objects]


def refusal_parts(error: str) -> list[bytes]:
    """The parts of an answer without objects.

    Args:
        error: why there are none; Frigate does not read it.
    """
    return [orjson.dumps({**_ANSWER, "error": error}), bytes(ROWS * _COLUMNS * 4)]


def object_rows(detections: Sequence[dict[str, Any]], width: int, height: int) -> npt.NDArray[np.float32]:
    """Objects as Frigate reads them: f32 [20, 6] with class, score, top, left, bottom, right in 0..1.

    Args:
        detections: of an answer, best first; those behind the twentieth are left out.
        width: of the picture that their boxes lie in, pixels.
        height: of the same.
    """
    rows = np.zeros((ROWS, _COLUMNS), np.float32)
    for row, found in zip(rows, detections, strict=False):
        left, top, right, bottom = found["box"]
        row[:] = (
            *(found["class_id"], found["probability"]),
            *(top / height, left / width, bottom / height, right / width),
        )
    return rows


def _header(parts: Sequence[bytes | memoryview]) -> dict[str, Any]:
    if not parts:
        raise RequestError("the message is empty")
    if len(parts[0]) > _HEADER_BYTES:
        raise RequestError(f"the first part of a message is JSON of at most {_HEADER_BYTES} bytes")
    try:
        header = orjson.loads(parts[0])
    except orjson.JSONDecodeError:
        raise RequestError("the first part of a message is not JSON") from None
    if not isinstance(header, dict):
        raise RequestError("the first part of a message is a JSON object")
    return header


def _pixels(header: dict[str, Any], data: bytes | memoryview) -> Pixels:
    shape, kind = header.get("shape"), header.get("dtype")
    if not isinstance(kind, str) or kind not in _TYPES:
        raise RequestError(
            f"dtype is uint8 or float32, not {kind!r:.40}: set input_dtype to {_INT} or {_FLOAT}"
        )
    if not isinstance(shape, list) or not all(type(side) is int and side > 0 for side in shape):
        raise RequestError(f"shape is a list of whole numbers above 0, not {shape!r:.80}")
    values = np.dtype(_TYPES[kind])
    if math.prod(shape) * values.itemsize != len(data):
        raise RequestError(f"values of {kind} {shape!r:.80} were announced, and {len(data)} bytes were sent")
    sides = shape[1:] if len(shape) == 4 and shape[0] == 1 else shape
    if len(sides) != 3 or 3 not in (sides[0], sides[-1]):
        raise RequestError(f"shape is [1, H, W, 3] or [1, 3, H, W], not {shape!r:.80}: see input_tensor")
    sent = np.frombuffer(data, values).reshape(sides)
    picture = sent if sides[-1] == 3 else sent.transpose(1, 2, 0)
    return np.ascontiguousarray(picture if kind == "uint8" else _bytes_of(picture))


def _bytes_of(picture: npt.NDArray[Any]) -> Pixels:
    """Pixels of floats: 0..1 (``input_dtype: float``), or 0..255 where one is above 1 (``float_denorm``).

    Raises:
        RequestError: a value is none of both.
    """
    least, most = float(picture.min()), float(picture.max())
    if not (least >= 0 and most <= 255):  # also where one is no number
        raise RequestError(f"values from {least:g} to {most:g} are no pixels: they lie in 0..1 or 0..255")
    found: Pixels = np.rint(picture * 255 if most <= 1 else picture).astype(np.uint8)
    return found
