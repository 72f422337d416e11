"""A request and its answer as handlers see them, whatever the transport: `Call` and `Reply`."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import orjson

from cpuserve.errors import CpuserveError, RequestError
from cpuserve.protocols.client_limits import ClientLimits
from cpuserve.protocols.inflate import inflate
from cpuserve.protocols.json_body import read_json
from cpuserve.serving.request import Request, Spans

__all__ = [
    "Call",
    "Handler",
    "Refusal",
    "Reply",
    "answer",
    "check_pictures",
    "error_reply",
    "json_reply",
]

_log = logging.getLogger("cpuserve.http")
_NO_HEADERS: Mapping[str, str] = {}
_LIMITS = ClientLimits()
_INTERNAL = "internal error; the server's log says more"
_MOST_TEXT = 2048


class Call:
    """A request as a handler sees it, whatever transport brought it.

    Attributes:
        method: as in HTTP: "GET", "POST", "PUT" or "DELETE".
        path: what is asked for, such as "/v2/models/digits"; without percent escapes, as Latin-1.
        query: the text behind the question mark.
        headers: by name in lower case.
        data: the body as it was sent.
        limits: what its client may take.
        address: the client's; empty for a local one.
        client: who the request is counted against: an API key or an address.
        arrived_ns: when it was whole, on the clock of `time.perf_counter_ns`; None where that is not known.
        due: its deadline, on the clock of `time.monotonic`.
        spans: takes the times of a request that is traced; None for any other.
        answer_headers: headers that its answer gets beside those of the handler.
        handler: what answers it instead of the table of routes; None for those routes.
        take_memory: called with a number of bytes before memory is taken for them; may raise.
        alone: whether its answer is computed alone, not with those of others; False where that is not known.
        request_class: of the pipeline's record of it.
    """

    __slots__ = (
        *("_parsed", "_parsed_bytes", "address", "alone", "answer_headers", "arrived_ns", "client", "data"),
        *("due", "handler", "headers", "limits", "method", "path", "query", "spans", "take_memory"),
    )
    request_class: type[Request] = Request

    def __init__(
        self,
        method: str,
        path: str,
        query: str = "",
        headers: Mapping[str, str] = _NO_HEADERS,
        data: bytes | bytearray | memoryview = b"",
        limits: ClientLimits = _LIMITS,
        address: str = "",
        client: str = "",
        take_memory: Callable[[int], None] = lambda _count: None,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.data = data
        self.limits = limits
        self.address = address
        self.client = client
        self.take_memory = take_memory
        self.arrived_ns: int | None = None
        self.due = math.inf
        self.spans: Spans | None = None
        self.answer_headers: Sequence[tuple[str, str]] = ()
        self.handler: Callable[[Call], Reply] | None = None
        self.alone = False
        self._parsed: Any = None
        self._parsed_bytes = 0

    def request(self) -> Request:
        """The pipeline's record of this request: its deadline and stage times."""
        return self.request_class(self.arrived_ns, self.spans, self.due, self.limits.max_answer_bytes)

    def body(self) -> memoryview:
        """The whole body, inflated if it was sent compressed.

        Raises:
            RequestError: a coding that is not gzip or deflate, or data in another format.
            BodyTooLarge: it inflates to more bytes than a body may have.
            BodiesTooLarge: the worker holds too many bytes of bodies.
        """
        data = memoryview(self.data)
        if "content-encoding" not in self.headers:
            return data
        coding = self.headers["content-encoding"].lower()
        if coding == "identity":
            return data
        return inflate(data, coding, self.limits.max_body_bytes, self.take_memory)

    def peek_json(self, size: int) -> Any:
        """The JSON document in the first ``size`` bytes of the body as sent, kept for `read_json`.

        Returns:
            None where they are no JSON, or hold too many values.
        """
        try:
            self._parsed = read_json(memoryview(self.data)[:size], self.limits.max_json_elements)
        except RequestError:
            return None
        self._parsed_bytes = size
        return self._parsed

    def read_json(self, data: memoryview) -> Any:
        """The JSON document at the beginning of the body, parsed once.

        Args:
            data: the first bytes of `body`.

        Raises:
            RequestError: it is not JSON, has too many values, or the deadline is over.
        """
        if self._parsed_bytes and self._parsed_bytes == len(data):
            return self._parsed
        return read_json(data, self.limits.max_json_elements, self.due)

    def json(self) -> Any:
        """The whole body as JSON.

        Raises:
            RequestError: it is not JSON, has too many values, or the deadline is over.
        """
        return self.read_json(self.body())

    def document(self) -> dict[str, Any]:
        """The body as a JSON object; an empty one where there is no body.

        Raises:
            RequestError: it is not JSON, has too many values, or the deadline is over.
        """
        body = self.body()
        document = self.read_json(body) if len(body) else {}
        if not isinstance(document, dict):
            raise RequestError("the request is a JSON object")
        return document

    def drop_body(self) -> None:
        """Let the memory of the body go."""
        self.data = b""
        self._parsed = None


class Refusal(NamedTuple):
    """Why a request was refused, without the error itself: its traceback would keep the body in memory.

    Attributes:
        grpc_code: the name of the gRPC status code.
        text: for the client; of errors at most 2 KiB and a bit.
    """

    grpc_code: str
    text: str


class Reply:
    """An answer; the transport adds the length.

    Attributes:
        status: HTTP's.
        body: in the form of the protocol.
        headers: names and values.
        refusal: what transports other than HTTP say of a request that was refused; None for an answer.
    """

    __slots__ = ("body", "headers", "refusal", "status")

    def __init__(
        self,
        status: int,
        body: bytes,
        headers: list[tuple[str, str]],
        refusal: Refusal | None = None,
    ) -> None:
        self.status = status
        self.body = body
        self.headers = headers
        self.refusal = refusal


Handler = Callable[..., Reply]


def json_reply(content: object, status: int = 200, **headers: str) -> Reply:
    """A JSON answer; header names are written with underscores."""
    more = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Reply(status, orjson.dumps(content), [("Content-Type", "application/json"), *more])


def check_pictures(count: int, most: int) -> None:
    """Refuse a request that holds more pictures than it may.

    Raises:
        RequestError: there are more.
    """
    if count > most:
        raise RequestError(f"{count} pictures; a request may have {most} (setting max_pictures)")


def error_reply(error: CpuserveError) -> Reply:
    """The answer to a request that was refused: ``{"error": text}``, and headers its status needs."""
    if not isinstance(error, RequestError):  # its text was written for those who run the server
        _log.error("answered %d: %s", error.status, error)
    reply = json_reply({"error": error.public_text}, error.status)
    reply.refusal = Refusal(error.grpc_code, _for_header(error.public_text))
    if error.status == HTTPStatus.UNAUTHORIZED:
        reply.headers.append(("WWW-Authenticate", "Bearer"))
    if error.retry_after_s is not None:
        reply.headers.append(("Retry-After", str(max(1, math.ceil(error.retry_after_s)))))
    return reply


def _for_header(text: str) -> str:
    """A text that gRPC can send as a header: clients take 8 KiB, and bytes beyond ASCII count threefold."""
    data = text.encode(errors="replace")
    return text if len(data) <= _MOST_TEXT else data[:_MOST_TEXT].decode(errors="ignore") + " ..."


def answer(handler: Handler, call: Call, *args: str) -> Reply:
    """Call a handler; whatever goes wrong becomes an answer, and what should not have is logged."""
    try:
        return handler(call, *args)
    except CpuserveError as error:
        return error_reply(error)
    except Exception:  # noqa: BLE001  # the worker lives on; the log has the traceback and the client a 500
        _log.exception("%s %r failed", call.method, call.path)
        reply = json_reply({"error": _INTERNAL}, 500)
        reply.refusal = Refusal(CpuserveError.grpc_code, _INTERNAL)
        return reply
