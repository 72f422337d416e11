"""The head of an HTTP/1.1 request, from bytes to a WSGI environment; it reads no socket and no body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from cpuserve.errors import RequestError

__all__ = ["FIELD", "LINE_BYTES", "MOST_FIELDS", "Head", "HeadReader", "HttpError"]

LINE_BYTES = 8190  # of a request line, and of a field with its end: what gunicorn's own workers take
MOST_FIELDS = 100
_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]"  # RFC 9110, section 5.6.2
_REQUEST_LINE = re.compile(r"(?:\r\n)?([A-Z0-9!$%&'*+.^_`|~-]{3,20}) ([!-~]+) HTTP/1\.([01])\r\n")
FIELD = re.compile(rf"^({_NAME}+):([\t -~\x80-\xff]*)\r\n", re.MULTILINE)
"""A field line (RFC 9112, section 5): no space before the colon, no folded line, CR and LF together."""

_ONCE = frozenset(("CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_HOST"))  # RFC 9110, section 5.3
_UNWRAPPED = frozenset(("CONTENT_LENGTH", "CONTENT_TYPE"))
_CODINGS = frozenset(("chunked", "identity"))
_LENGTH_DIGITS = 19


class HttpError(RequestError):
    """A request line, a field or a chunk that is wrong; the connection closes after the answer."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(f"the request is not HTTP: {message}")
        self.status = status


class Head:
    """A request line and its fields.

    Attributes:
        environ: of WSGI, all but the body.
        target: path and query as sent.
        length: of the body; 0 where there is none, or where it is chunked.
        chunked: whether the body comes in chunks.
        keep: whether the client keeps the connection for another request.
        waits: whether the client waits for ``100 Continue`` before it sends the body.
    """

    __slots__ = ("chunked", "environ", "keep", "length", "target", "waits")

    def __init__(self, environ: dict[str, Any]) -> None:
        self.environ = environ
        self.target: str = environ["RAW_URI"]
        first = environ["SERVER_PROTOCOL"] == "HTTP/1.0"
        coding, length = environ.get("HTTP_TRANSFER_ENCODING"), environ.get("CONTENT_LENGTH")
        if coding is not None:
            _must_be_chunked(coding)
            if length is not None or first:
                raise HttpError("Transfer-Encoding with Content-Length, or in HTTP/1.0")
        self.chunked = coding is not None
        if length is None:
            self.length = 0
        elif length.isdecimal() and len(length) <= _LENGTH_DIGITS:
            self.length = int(length)
        else:
            raise HttpError(f"Content-Length {length[:80]!r}")
        connection = environ.get("HTTP_CONNECTION")
        if connection is None:
            self.keep = not first
        else:
            words = connection.lower()
            self.keep = "close" not in words and (not first or "keep-alive" in words)
        expected = environ.get("HTTP_EXPECT")
        self.waits = expected is not None and expected.lower() == "100-continue" and not first


def _must_be_chunked(coding: str) -> None:
    codings = [word.strip(" \t").lower() for word in coding.split(",")]
    if not _CODINGS.issuperset(codings):
        raise HttpError(f"Transfer-Encoding {coding[:80]!r}; only chunked is understood", 501)
    if codings != ["chunked"]:
        raise HttpError(f"Transfer-Encoding {coding[:80]!r} is not chunked, once and alone")


class HeadReader:
    """Reads the heads of one connection, one after the other.

    A head that is whole is taken by three searches. Only one that comes in pieces, or is wrong, is looked at
    line by line: what cannot become a head is refused as soon as that line is there.

    Args:
        base: what every environment has.
    """

    def __init__(self, base: Mapping[str, Any]) -> None:
        self._base = base
        self._part = bytearray()
        self._judged = self._lines = 0  # of what is there: bytes in whole lines, and those lines

    def feed(self, data: bytes) -> tuple[Head, memoryview] | None:
        """Take the next bytes.

        Returns:
            The head and what came behind it, or None until it is whole.

        Raises:
            HttpError: it is no head of a request, or larger than one may be.
        """
        if self._part:
            self._part += data
            if self._part.find(b"\r\n\r\n", max(0, len(self._part) - len(data) - 3)) < 0:
                self._judge()
                return None
            data = bytes(self._part)
            self._part = bytearray()
            self._judged = self._lines = 0
        end = data.find(b"\r\n\r\n") + 2
        if end < 2:
            self._part += data
            self._judge()
            return None
        return _head(data[:end].decode("latin-1"), self._base), memoryview(data)[end + 2 :]

    def _judge(self) -> None:
        """Refuse what no more bytes can make a head, line by line."""
        part = self._part
        while end := part.find(b"\n", self._judged) + 1:
            line = part[self._judged : end].decode("latin-1")
            if self._judged or line != "\r\n":  # one empty line may come first
                _check(line, self._lines)
                self._lines += 1
            self._judged = end
        if len(part) - self._judged >= _room(self._lines):
            raise _too_large(self._lines)


def _head(text: str, base: Mapping[str, Any]) -> Head:
    """What a whole head says: its lines, each with its end."""
    line = _REQUEST_LINE.match(text) or _check(text.removeprefix("\r\n").partition("\n")[0] + "\n", 0)
    at = line.end()
    fields = FIELD.findall(text, at)
    if len(text) > LINE_BYTES or not len(fields) == text.count("\n", at) <= MOST_FIELDS:
        for number, one in enumerate(text.removeprefix("\r\n").split("\n")[:-1]):
            _check(f"{one}\n", number)
    method, target, minor = line.groups()
    path = target if target[0] == "/" else _origin(method, target)
    path, _, query = path.partition("?")
    environ = {
        **base,
        "REQUEST_METHOD": method,
        "RAW_URI": target,
        "PATH_INFO": unquote(path, "latin-1") if "%" in path else path,
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": "HTTP/1.1" if minor == "1" else "HTTP/1.0",
    }
    for name, value in fields:
        key = _key(name)
        text = value.strip(" \t")
        if key in environ:
            if key in _ONCE:
                raise HttpError(f"{name} comes twice")
            text = f"{environ[key]},{text}"
        if key:
            environ[key] = text
    return Head(environ)


def _origin(method: str, target: str) -> str:
    """Path and query of a target that is no path (RFC 9112, section 3.2); that of CONNECT is refused."""
    if target == "*" and method == "OPTIONS":
        return target
    scheme, there, rest = target.partition("://")
    if not there or not scheme:
        raise HttpError(f"request target {target[:80]!r}")
    return "/" + rest.partition("/")[2]


@lru_cache(maxsize=256)
def _key(name: str) -> str:
    """The WSGI name of a field; none where X_Y would become that of X-Y, which a proxy may vouch for."""
    if "_" in name:
        return ""
    key = name.upper().replace("-", "_")
    return key if key in _UNWRAPPED else f"HTTP_{key}"


def _check(line: str, number: int) -> re.Match[str]:
    """Line ``number`` of a head, which has its end; refused if it is wrong, too long or one too many."""
    if number > MOST_FIELDS or len(line) > _room(number):
        raise _too_large(number)
    found = (FIELD if number else _REQUEST_LINE).fullmatch(line)
    if found is None:
        ending = "" if line.endswith("\r\n") else " without CR before LF"
        raise HttpError(f"{'field' if number else 'request line'} {line.rstrip()[:80]!r}{ending}")
    return found


def _room(number: int) -> int:
    """The longest that line ``number`` may be with its end."""
    return LINE_BYTES if number else LINE_BYTES + 2


def _too_large(number: int) -> HttpError:
    if number == 0:
        return HttpError(f"its request line is longer than {LINE_BYTES} bytes", 414)
    return HttpError(f"it has more than {MOST_FIELDS} fields, or one of more than {LINE_BYTES} bytes", 431)
