"""What a route handler gets and gives, the same behind Flask and ahead of it; it knows no route."""

from __future__ import annotations

import io
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson

from cpuserve.errors import CpuserveError, RequestError, without_directories
from cpuserve.protocols.inflate import inflate
from cpuserve.protocols.json_body import MAX_JSON_ELEMENTS, read_json
from cpuserve.serving.request import MAX_ANSWER_BYTES, Request, Spans

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

__all__ = [
    "Body",
    "Call",
    "Handler",
    "Reply",
    "answer",
    "check_pictures",
    "error_reply",
    "http_date",
    "json_reply",
]

_log = logging.getLogger("cpuserve.http")
MAX_BODY_BYTES = 32 << 20
MAX_PICTURES = 1024
_NO_CONTENT = 204
_REASONS = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


class Body:
    """A request body that is in memory whole, as a WSGI input stream.

    Handlers take its data; a stream, which is costly to make and to end, is made for other readers only.

    Attributes:
        data: the bytes.
    """

    __slots__ = ("_reader", "data")

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self.data = memoryview(data)
        self._reader: io.BufferedReader | None = None

    def _stream(self) -> io.BufferedReader:
        if self._reader is None:
            self._reader = io.BufferedReader(_Stream(self.data))
        return self._reader

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most ``size``; all that are left where it is negative."""
        return self._stream().read(size)

    def readline(self, size: int = -1) -> bytes:
        """The bytes up to the end of a line."""
        return self._stream().readline(size)

    def readlines(self, hint: int = -1) -> list[bytes]:
        """The lines that are left, or so many that they have ``hint`` bytes."""
        return self._stream().readlines(hint)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream())


class _Stream(io.RawIOBase):
    """Gives the bytes of a body without another copy of the whole."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def readable(self) -> bool:
        """True: it is an input stream."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Copy the next bytes into ``buffer``."""
        part = self._data[self._at : self._at + len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)


class Call:
    """A request as a handler sees it.

    Attributes:
        environ: the WSGI environment.
        header: a header by its WSGI name ("HTTP_ACCEPT", "CONTENT_TYPE"), or None.
        arrived_ns: when the request was whole, on the clock of `time.perf_counter_ns`, if the worker said so.
        due: the deadline, on the clock of `time.monotonic`.
        spans: what takes the times of a request that is traced; None for any other.
    """

    __slots__ = ("arrived_ns", "due", "environ", "header", "spans")

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self.environ = environ
        self.header: Callable[[str], str | None] = environ.get
        self.arrived_ns: int | None = None
        if "cpuserve.arrived_ns" in environ:  # `get` would be a call, on the way of every request
            self.arrived_ns = environ["cpuserve.arrived_ns"]
        self.due: float = environ["cpuserve.due"] if "cpuserve.due" in environ else math.inf  # noqa: SIM401
        self.spans: Spans | None = None
        if "cpuserve.spans" in environ:
            self.spans = environ["cpuserve.spans"]

    def request(self) -> Request:
        """What takes the times of this request in the pipeline, and holds it to its deadline."""
        environ, most = self.environ, MAX_ANSWER_BYTES
        if "cpuserve.max_answer_bytes" in environ:
            most = environ["cpuserve.max_answer_bytes"]
        return Request(self.arrived_ns, self.spans, self.due, most)

    def body(self) -> memoryview:
        """The whole body, inflated if it was sent compressed.

        Raises:
            RequestError: a coding that is not gzip or deflate, or data that are not what it says.
            BodyTooLarge: inflated it is larger than a body may be.
            BodiesTooLarge: the worker holds too many bytes of bodies for that.
        """
        stream = self.environ["wsgi.input"]
        if isinstance(stream, Body):
            data = stream.data
        else:
            length = self.environ.get("CONTENT_LENGTH") or None
            data = memoryview(stream.read(int(length)) if length is not None else stream.read())
        coding = self.header("HTTP_CONTENT_ENCODING")
        if coding is None or coding.lower() == "identity":
            return data
        share = self.environ.get("cpuserve.body_share")  # none where the body came by another server
        take = share.take if share is not None else _take_freely
        return inflate(data, coding.lower(), self.max_body_bytes, take)

    @property
    def max_body_bytes(self) -> int:
        """Most bytes of a body, inflated."""
        return int(self.environ.get("cpuserve.max_body_bytes", MAX_BODY_BYTES))

    @property
    def max_json_elements(self) -> int:
        """Most values that a JSON body may hold."""
        return int(self.environ.get("cpuserve.max_json_elements", MAX_JSON_ELEMENTS))

    @property
    def max_pictures(self) -> int:
        """Most pictures that a request may hold."""
        return int(self.environ.get("cpuserve.max_pictures", MAX_PICTURES))

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            RequestError: it is something else, or holds more values than it may, or its time is over.
        """
        return read_json(self.body(), self.max_json_elements, self.due)

    def document(self) -> dict[str, Any]:
        """The body as a JSON object; an empty one where there is no body.

        Raises:
            RequestError: it is something else, or holds more values than it may, or its time is over.
        """
        body = self.body()
        if not body.nbytes:
            return {}
        document = read_json(body, self.max_json_elements, self.due)
        if not isinstance(document, dict):
            raise RequestError("the request is a JSON object")
        return document


def _take_freely(_count: int) -> None:
    """Count nothing."""


class Reply:
    """An answer: status, body and headers; Content-Length is added by `send`."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes, headers: list[tuple[str, str]]) -> None:
        self.status = status
        self.body = body
        self.headers = headers

    def send(self, start_response: StartResponse) -> list[bytes]:
        """Answer through WSGI."""
        if self.status != _NO_CONTENT:
            self.headers.append(("Content-Length", str(len(self.body))))
        start_response(_REASONS[self.status], self.headers)
        return [self.body]


Handler = Callable[..., Reply]


def json_reply(content: object, status: int = 200, **headers: str) -> Reply:
    """A JSON answer; header names are written with underscores."""
    more = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Reply(status, orjson.dumps(content), [("Content-Type", "application/json"), *more])


def check_pictures(count: int, most: int) -> None:
    """Refuse a request of more pictures than it may hold.

    Raises:
        RequestError: there are more.
    """
    if count > most:
        raise RequestError(f"{count} pictures; a request may have {most} (setting max_pictures)")


def error_reply(error: CpuserveError) -> Reply:
    """The answer to a request that was refused: ``{"error": text}``, and headers its status needs."""
    text = str(error)
    if not isinstance(error, RequestError):  # it was made for those who run the server
        _log.error("answered %d: %s", error.status, text)
        text = without_directories(text)
    reply = json_reply({"error": text}, error.status)
    if error.status == HTTPStatus.UNAUTHORIZED:
        reply.headers.append(("WWW-Authenticate", "Bearer"))
    if error.retry_after_s is not None:
        reply.headers.append(("Retry-After", str(max(1, math.ceil(error.retry_after_s)))))
    return reply


def answer(handler: Handler, call: Call, *args: str) -> Reply:
    """Call a handler; whatever goes wrong becomes an answer, and what should not have is logged."""
    try:
        return handler(call, *args)
    except CpuserveError as error:
        return error_reply(error)
    except Exception:  # noqa: BLE001  # the worker lives on; the log has the traceback and the client a 500
        _log.exception("%s %r failed", call.header("REQUEST_METHOD"), call.header("PATH_INFO"))
        return json_reply({"error": "internal error; the server's log says more"}, 500)


_date: tuple[int, str] = (0, "")


def http_date() -> str:
    """The Date header, made once a second."""
    global _date  # noqa: PLW0603
    now = int(time.time())
    if _date[0] != now:
        _date = (now, time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now)))
    return _date[1]
