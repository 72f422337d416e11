"""A client of a server, which shrinks pictures to what the model sees before it sends them."""

from __future__ import annotations

import http.client
import json
import sys
from typing import Any, Self
from urllib.parse import quote, urlsplit

import cv2
import numpy as np
import simplejpeg

from cpuserve.errors import RequestError
from cpuserve.serving.decode import Decoder, Pixels
from cpuserve.serving.picture_header import is_picture
from cpuserve.serving.preprocess import Resizer

__all__ = ["Client", "ClientError", "shrink"]

_QUALITY = 90
_LAST_UPRIGHT = 4  # EXIF orientations above lay the picture on its side


class ClientError(Exception):
    """The server refused a request.

    Attributes:
        status: HTTP status of the refusal.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def shrink(picture: bytes, width: int, height: int, quality: int = _QUALITY) -> bytes:
    """The whole picture as a JPEG that just covers width x height, with its aspect ratio kept.

    A picture that would not become smaller is returned as it is. So is one that cannot be decoded: the server
    says what is wrong with it.

    Args:
        picture: an encoded picture in any format that the server or OpenCV reads.
        width: pixels of the model's input.
        height: pixels of the model's input.
        quality: JPEG quality, 1 to 100.
    """
    try:
        pixels, whole_width, whole_height = _upright(picture, max(width, height))
    except (RequestError, cv2.error):
        return picture
    scale = max(width / whole_width, height / whole_height)
    if scale < 1:
        size = (max(width, round(whole_width * scale)), max(height, round(whole_height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    small: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality, "BGR", colorsubsampling="420"
    )
    return small if len(small) < len(picture) else picture


def _upright(picture: bytes, side: int) -> tuple[Pixels, int, int]:
    """Pixels as the server would decode them, and width and height of the whole picture.

    Args:
        picture: an encoded picture.
        side: its decoder may scale it down to no less than this, both ways.

    Returns:
        BGR u8 [H, W, 3], turned upright.

    Raises:
        RequestError: neither the server nor OpenCV reads the picture.
    """
    if picture and not is_picture(memoryview(picture)):  # it may be AVIF, which only OpenCV reads
        found: Any = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
        if found is not None:
            return found, found.shape[1], found.shape[0]
    decoder = Decoder("BGR", max_pixels=sys.maxsize, max_scan_pixels=sys.maxsize)
    pixels, orientation, whole_width, whole_height = decoder.decode(picture, side, side)
    if orientation > 1:
        height, width = pixels.shape[:2] if orientation <= _LAST_UPRIGHT else pixels.shape[1::-1]
        turned: Pixels = np.empty((height, width, 3), np.uint8)
        Resizer(width, height).into(turned, pixels, orientation)
        pixels = turned
    return pixels, whole_width, whole_height


class Client:
    """One connection to a server, which stays open. A context manager; use one client a thread.

    Example::

        with Client("http://127.0.0.1:8000") as client:
            answer = client.predict("digits", Path("photo.jpg").read_bytes())

    Args:
        url: address of the server, such as ``http://127.0.0.1:8000``.
        api_key: sent with every request; empty for a server without keys.
        timeout_s: seconds to wait for an answer.
    """

    def __init__(self, url: str, *, api_key: str = "", timeout_s: float = 30.0) -> None:
        parts = urlsplit(url if "//" in url else f"//{url}")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname or "127.0.0.1", parts.port, timeout=timeout_s)
        self._headers = {"X-API-Key": api_key} if api_key else {}
        self._sizes: dict[str, tuple[int, int] | None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def predict(
        self, model: str, picture: bytes, *, shrinking: bool = True, topk: int | None = None
    ) -> dict[str, Any]:
        """The model's answer to a picture.

        Args:
            model: the model's name.
            picture: the bytes of an encoded picture.
            shrinking: shrink the picture to what the model sees before it is sent.
            topk: number of classes to answer; None for the model's default.

        Raises:
            ClientError: the server refused the request.
            OSError: the server cannot be reached.
        """
        if shrinking:
            size = self.input_size(model)
            if size is not None:
                picture = shrink(picture, *size)
        query = "" if topk is None else f"?topk={topk}"
        answer: dict[str, Any] = self._ask("POST", f"/predictions/{quote(model, safe='')}{query}", picture)
        return answer

    def input_size(self, model: str) -> tuple[int, int] | None:
        """Width and height of the model's picture input; None for a model that takes no pictures."""
        if model not in self._sizes:
            metadata = self._ask("GET", f"/v2/models/{quote(model, safe='')}")
            self._sizes[model] = _size([tensor["shape"] for tensor in metadata["inputs"]])
        return self._sizes[model]

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        self._connection.request(method, path, body, self._headers)
        response = self._connection.getresponse()
        text = response.read()
        try:
            document = json.loads(text)
        except ValueError:
            document = {"error": text.decode(errors="replace")[:500]}
        if response.status != http.client.OK:
            raise ClientError(response.status, str(document.get("error", document)))
        return document


def _size(shapes: list[list[int]]) -> tuple[int, int] | None:
    if len(shapes) != 1 or len(shapes[0]) != 4:
        return None
    _, *sides = shapes[0]
    if sides[2] in (1, 3):
        height, width = sides[0], sides[1]
    elif sides[0] in (1, 3):
        height, width = sides[1], sides[2]
    else:
        return None
    return (width, height) if width > 0 and height > 0 else None
