"""A client of one server or several, which shrinks pictures to what the model sees before it sends them."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote, urlsplit

import cv2
import numpy as np
import simplejpeg

from cpuserve.endpoints.server_pool import NoServer, ServerPool
from cpuserve.errors import RequestError
from cpuserve.serving.decode import Decoder, Pixels
from cpuserve.serving.picture_header import is_picture
from cpuserve.serving.preprocess import Resizer

__all__ = ["Client", "ClientError", "shrink"]

_QUALITY = 90
_BUSY = (429, 503)
_MOST_TRIES = 3  # of a request, and for each server one more: it may be what ends them
_PROBE_S = 2.0
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
    """Asks one server or several. A context manager; several threads may use it.

    Of several servers the one with the fewest requests of this client is asked. One that cannot be reached,
    has no room or fails (5xx) is left out for a while, the request goes to another, and once the server says
    that it is ready it is asked again. Every request can be repeated: answers change nothing.

    Example::

        with Client("http://127.0.0.1:8000") as client:
            answer = client.predict("digits", Path("photo.jpg").read_bytes())
        with Client(["http://a:8000", "http://b:8000"]) as client: ...
        with Client("@endpoints.json") as client: ...  # what `cpuserve cluster status --json` prints

    Args:
        url: address of the server, such as ``http://127.0.0.1:8000``, or of several; ``@FILE`` or
            ``@http://...`` is a registry, whose servers are followed.
        api_key: sent with every request; empty for a server without keys.
        timeout_s: seconds to wait for an answer of one server.
        wait_s: seconds to wait where none of several servers can be asked.

    Raises:
        UsageError: no server is named.
        CpuserveError: a registry cannot be read.
    """

    def __init__(
        self, url: str | Sequence[str], *, api_key: str = "", timeout_s: float = 30.0, wait_s: float = 30.0
    ) -> None:
        self._timeout_s, self._wait_s = timeout_s, wait_s
        self._headers = {"X-API-Key": api_key} if api_key else {}
        self._sizes: dict[str, tuple[int, int] | None] = {}
        self._idle: dict[str, list[http.client.HTTPConnection]] = {}
        self._pool = ServerPool([url] if isinstance(url, str) else url, self._is_ready)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()
        while self._idle:
            _, connections = self._idle.popitem()
            for connection in connections:
                connection.close()

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
            OSError: no server can be reached.
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
        """The answer of a server that gives one.

        Raises:
            ClientError: a server refused the request, or all of them have no room or fail.
            OSError: no server can be reached.
        """
        failed: list[str] = []
        while True:
            try:
                endpoint = self._pool.take(self._wait_s, failed)
            except NoServer as error:
                raise ConnectionError(str(error)) from error
            failure, pause_s, busy = "it was interrupted", 0.0, False
            refusal: Exception | None = None
            try:
                answer = self._ask_one(endpoint.url, method, path, body)
                refusal = answer.refusal()
                failure, pause_s, busy = answer.failure, answer.retry_after_s, answer.status in _BUSY
            except (OSError, http.client.HTTPException) as error:
                failure = str(error) or type(error).__name__
                refusal = error if isinstance(error, OSError) else ConnectionError(failure)
            finally:
                self._pool.give_back(endpoint, failure, pause_s, busy=busy)
            if refusal is None:
                return answer.document
            failed.append(endpoint.url)
            # a server's own word on the request is the word of all
            if not failure or self._pool.alone or len(failed) > _MOST_TRIES + len(self._pool):
                raise refusal

    def _ask_one(self, url: str, method: str, path: str, body: bytes | None) -> _Answer:
        """What one server answers; a connection that it has closed meanwhile is opened again."""
        idle = self._idle.setdefault(url, [])
        try:
            connection, used = idle.pop(), True
        except IndexError:
            connection, used = self._connection(url, self._timeout_s), False
        while True:
            try:
                connection.request(method, path, body, self._headers)
                response = connection.getresponse()
                text = response.read()
                break
            except (ConnectionError, http.client.HTTPException):
                connection.close()
                if not used:
                    raise
                used = False
            except BaseException:
                connection.close()
                raise
        idle.append(connection)
        return _Answer.of(response, text)

    def _is_ready(self, url: str) -> bool:
        connection = self._connection(url, min(_PROBE_S, self._timeout_s))
        try:
            connection.request("GET", "/v2/health/ready", headers=self._headers)
            return connection.getresponse().status == http.client.OK
        except http.client.HTTPException as error:
            raise ConnectionError(str(error) or type(error).__name__) from error
        finally:
            connection.close()

    def _connection(self, url: str, timeout_s: float) -> http.client.HTTPConnection:
        parts = urlsplit(url if "//" in url else f"//{url}")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        return kind(parts.hostname or "127.0.0.1", parts.port, timeout=timeout_s)


@dataclass(frozen=True)
class _Answer:
    """What a server answers.

    Attributes:
        status: of HTTP.
        document: the decoded body.
        retry_after_s: the pause it asks for, seconds.
    """

    status: int
    document: Any
    retry_after_s: float = 0.0

    @classmethod
    def of(cls, response: http.client.HTTPResponse, text: bytes) -> _Answer:
        """Read an answer."""
        try:
            document = json.loads(text)
        except ValueError:
            document = {"error": text.decode(errors="replace")[:500]}
        after = response.headers.get("Retry-After", "")
        return cls(response.status, document, float(after) if after.isdecimal() else 0.0)

    @property
    def failure(self) -> str:
        """Why another server should be asked; empty where that would say the same."""
        if self.status in _BUSY or self.status >= http.client.INTERNAL_SERVER_ERROR:
            return f"{self.status}: {self.text}"
        return ""

    @property
    def text(self) -> str:
        """The words of a refusal."""
        return str(
            self.document.get("error", self.document) if isinstance(self.document, dict) else self.document
        )

    def refusal(self) -> ClientError | None:
        """The error to raise; None for an answer."""
        return None if self.status == http.client.OK else ClientError(self.status, self.text)


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
