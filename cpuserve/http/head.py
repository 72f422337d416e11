"""Parses the head of an HTTP/1.1 request: its request line and header fields.

llhttp, Node.js's parser, decides what is HTTP (through httptools). It sets no limits and knows other
protocols too, so both are checked here. Whatever two servers in a row could read in two ways is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import unquote

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from cpuserve.errors import RequestError

__all__ = ["HEAD_BYTES", "LINE_BYTES", "MOST_FIELDS", "Head", "HeadReader", "HttpError", "head_ends"]

LINE_BYTES = 8190  # of a request line, and of a field with its end: what gunicorn's own workers take
MOST_FIELDS = 100
HEAD_BYTES = 1 << 16

_ONCE = frozenset(("content-length", "content-type", "host"))  # RFC 9110, section 5.3
_VERSIONS = {"1.0": b"1.0", "1.1": b"1.1"}
_LENGTH_DIGITS = 19
_ABSOLUTE = re.compile(r"https?://([^/?]+)([/?].*)?", re.IGNORECASE)
_HOST = re.compile(r"(?:[A-Za-z0-9._~%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")  # with its end, where that is there
_HTTP2 = b"PRI * HTTP/2.0\r\n"  # how a client begins that knows it is spoken


class HttpError(RequestError):
    """A malformed request line, field or chunk; the connection closes after the answer."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(f"the request is not HTTP: {message}")
        self.status = status


class Head:
    """A request line and its header fields.

    Args:
        method: "GET".
        target: path and query as sent.
        path: with percent escapes decoded, as Latin-1.
        query: what is behind the question mark.
        version: "1.0" or "1.1".
        headers: by name in lower case; the values of a field that came several times are joined by commas.

    Attributes:
        length: of the body; 0 where there is none, or where it is chunked.
        chunked: whether the body comes in chunks.
        keep: whether the client keeps the connection for another request.
        waits: whether the client waits for ``100 Continue`` before it sends the body.

    Raises:
        HttpError: the fields about the body are wrong.
    """

    __slots__ = (
        *("chunked", "headers", "keep", "length", "method", "path", "query", "target", "version", "waits"),
    )

    def __init__(
        self, method: str, target: str, path: str, query: str, version: str, headers: dict[str, str]
    ) -> None:
        self.method = method
        self.target = target
        self.path = path
        self.query = query
        self.version = version
        self.headers = headers
        first = version == "1.0"
        self.chunked = "transfer-encoding" in headers
        if self.chunked:
            coding = headers["transfer-encoding"]
            if first:
                raise HttpError("Transfer-Encoding in HTTP/1.0")
            if coding.lower() != "chunked":
                raise HttpError(f"Transfer-Encoding {coding[:80]!r}; only chunked is understood", 501)
        self.length = 0
        if "content-length" in headers:
            length = headers["content-length"]
            if len(length) > _LENGTH_DIGITS:
                raise HttpError(f"Content-Length {length[:80]!r}")
            self.length = int(length)
        self.keep = not first
        if "connection" in headers:
            words = headers["connection"].lower()
            self.keep = "close" not in words and (not first or "keep-alive" in words)
        self.waits = False
        if "expect" in headers:
            self.waits = headers["expect"].lower() == "100-continue" and not first

    def fields(self) -> tuple[str, str, str, str, str, dict[str, str]]:
        """What another worker makes the same head of."""
        return self.method, self.target, self.path, self.query, self.version, self.headers


class _Message:
    """Collects what httptools parses of a head."""

    __slots__ = ("fields", "target", "whole")

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.whole = False

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.whole = True


class HeadReader:
    """Reads the heads of one connection, one after the other."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._message = _Message()
        self._parser = HttpRequestParser(self._message)
        self._first = b""  # what there was when the request line was whole
        self._left = HEAD_BYTES
        self._line = self._lines = 0  # bytes of the line that is not whole, and lines before it

    @property
    def asks_head(self) -> bool:
        """Whether the request that is read, or was refused, begins as one for a head only."""
        return self._first.lstrip(b"\r\n").startswith(b"HEAD ")

    def feed(self, data: bytes) -> tuple[Head, memoryview] | None:
        """Take the next bytes.

        Returns:
            The head and what came behind it, or None until it is whole.

        Raises:
            HttpError: it is not the head of a request, or too large.
        """
        message, parser, at = self._message, self._parser, 0
        for end in head_ends(data, begun=self._lines + self._line > 0):
            self._left -= end - at
            over = self._left < 0
            piece = data[at : end + self._left] if over else data[at:end]
            lines = piece.count(b"\n")
            if self._line + len(piece) > LINE_BYTES or self._lines + lines > MOST_FIELDS:
                for line in _LINE.findall(piece):
                    self._take_line(line)
            else:
                self._take(piece, lines)
            if message.whole:
                method, version = parser.get_method(), parser.get_http_version()
                _check_line(self._first, method, message.target, version)
                head = _head(message, method, version)
                self._start()
                return head, memoryview(data)[end:]
            if over:
                raise HttpError(f"it has more than {HEAD_BYTES} bytes before its body", 431)
            at = end
        return None

    def _take(self, piece: bytes, lines: int) -> None:
        """Take bytes that are within the limits."""
        if not self._first or self._first.find(b"\n", 2) < 0:  # behind an empty line, which may come first
            self._first += piece
        try:
            self._parser.feed_data(piece)
        except HttpParserUpgrade:
            pass  # to nothing that is spoken here: the request stays one of HTTP
        except HttpParserError as error:
            if self._first.startswith(_HTTP2):
                raise HttpError("it is HTTP/2, which is spoken at grpc_port alone", 505) from None
            raise HttpError(str(error)) from None
        self._lines += lines
        if piece[-1:] == b"\n":
            self._line = 0
        else:
            self._line = len(piece) - piece.rfind(b"\n") - 1 + (0 if lines else self._line)

    def _take_line(self, line: bytes) -> None:
        """Take a line or a part of one up to the limits; refuse what is beyond."""
        if self._lines > MOST_FIELDS and not self._line and line[:1] != b"\r":
            raise _too_large()
        first = self._lines == 0
        room = LINE_BYTES + 2 * first - self._line
        self._take(line[:room], line.count(b"\n", 0, room))
        if len(line) > room:
            if first:
                raise HttpError(f"its request line is longer than {LINE_BYTES} bytes", 414)
            raise _too_large()


def head_ends(data: bytes, *, begun: bool) -> Iterator[int]:
    """Where a head or a chunked body may end: behind CR LF CR LF, and at the end of the bytes.

    httptools does not tell where a message has ended, so it must get no byte of the next one.

    Args:
        data: the bytes.
        begun: whether bytes came before them, which the end may have begun in.
    """
    at = 0
    if begun:
        at = min(3, len(data))
        yield from range(1, at + 1)
    start = 0
    while (found := data.find(b"\r\n\r\n", start) + 4) >= 4:
        at, start = found, found - 3
        yield at
    if at < len(data):
        yield len(data)


def _check_line(head: bytes, method: bytes, target: bytes, version: str) -> None:
    """Refuse other protocols, and spaces or empty lines that another server might read differently."""
    if version in _VERSIONS:
        line = b"%b %b HTTP/%b\r\n" % (method, target, _VERSIONS[version])
        if head.startswith(line, 2 if head[:2] == b"\r\n" else 0):
            return
    shown = head.strip().partition(b"\n")[0][:80]
    raise HttpError(f"request line {shown!r}")


def _head(message: _Message, method: bytes, version: str) -> Head:
    target = message.target.decode("latin-1")
    if "#" in target:
        raise HttpError(f"request target {target[:80]!r}")  # a fragment is not for servers
    authority, path = ("", target) if target[0] == "/" else _origin(method, target)
    path, _, query = path.partition("?")
    headers: dict[str, str] = {}
    for name, value in message.fields:
        key = _key(name)
        text = value.decode("latin-1")
        if text[-1:] in " \t":  # llhttp drops blanks before a value only
            text = text.rstrip(" \t")
        if key in headers:
            if key in _ONCE:
                raise HttpError(f"{name.decode('latin-1')} comes twice")
            text = f"{headers[key]},{text}"
        if key:
            headers[key] = text
    if "host" in headers:
        _check_host(headers["host"], authority)
    elif version == "1.1":
        raise HttpError("it has no Host")
    path = unquote(path, "latin-1") if "%" in path else path
    return Head(method.decode("latin-1"), target, path, query, version, headers)


def _origin(method: bytes, target: str) -> tuple[str, str]:
    """Authority, and path with query, of a target that is no path (RFC 9112, section 3.2).

    Raises:
        HttpError: it is for CONNECT, of another scheme, or has a user.
    """
    if target == "*" and method == b"OPTIONS":
        return "", target
    found = _ABSOLUTE.fullmatch(target)
    if found is None or not _HOST.fullmatch(found[1]):
        raise HttpError(f"request target {target[:80]!r}")
    rest = found[2] or ""
    return found[1], rest if rest[:1] == "/" else "/" + rest


@lru_cache(maxsize=256)
def _check_host(host: str, authority: str) -> None:
    """Refuse a malformed Host (RFC 9110, section 7.2), or one that differs from the target's.

    Raises:
        HttpError: it is.
    """
    if not _HOST.fullmatch(host):
        raise HttpError(f"Host {host[:80]!r}")
    if authority and _without_port_80(authority) != _without_port_80(host):
        raise HttpError(f"Host {host[:80]!r} beside the target's {authority[:80]!r}")


def _without_port_80(host: str) -> str:
    return host.lower().removesuffix(":").removesuffix(":80")


@lru_cache(maxsize=256)
def _key(name: bytes) -> str:
    """The name of a field in lower case; empty for X_Y, which some servers take for X-Y."""
    return "" if b"_" in name else name.decode("latin-1").lower()


def _too_large() -> HttpError:
    return HttpError(f"it has more than {MOST_FIELDS} fields, or one of more than {LINE_BYTES} bytes", 431)
