"""The chunks of a request body (RFC 9112, section 7.1), from bytes as they come; it knows no limit."""

from __future__ import annotations

import re

from cpuserve.web.head import FIELD, LINE_BYTES, MOST_FIELDS, HttpError

__all__ = ["Chunks"]

_NAME = rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_EXTENSION = rb"[ \t]*;[ \t]*" + _NAME + rb"(?:[ \t]*=[ \t]*(?:" + _NAME + rb"|" + _QUOTED + rb"))?"
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:" + _EXTENSION + rb")*\r\n")
_NO_TRAILERS = frozenset(("authorization", "content-length", "host", "te", "trailer", "transfer-encoding"))


class Chunks:
    """Reads the chunks of one body.

    Args:
        body: what they carry is added to it.

    Attributes:
        body: the same.
    """

    def __init__(self, body: bytearray) -> None:
        self.body = body
        self._left = b""  # a line that is not whole
        self._data = 0  # bytes of the chunk still to come
        self._behind = False  # behind a chunk's data, where CR LF must be
        self._trailers = -1  # fields behind the last chunk; -1 before it

    def feed(self, data: bytes | memoryview) -> memoryview | None:
        """Take the next bytes.

        Returns:
            What came behind the body, or None until it is whole.

        Raises:
            HttpError: they are no chunks.
        """
        whole = self._left + data
        view, at = memoryview(whole), 0
        while True:
            if self._data:
                piece = view[at : at + self._data]
                self.body += piece
                self._data -= len(piece)
                at += len(piece)
                self._behind = not self._data
            end = whole.find(b"\n", at, at + LINE_BYTES) + 1
            if self._data or not end:
                break
            line, at = whole[at:end], end
            if self._line(line):
                return view[at:]
        self._left = whole[at:]
        if len(self._left) >= LINE_BYTES:
            raise HttpError(f"a chunk size or trailer is longer than {LINE_BYTES} bytes")
        if self._behind and not b"\r\n".startswith(self._left):
            raise _no_end()
        return None

    def _line(self, line: bytes) -> bool:
        """Take a line with its end; True when it ends the body."""
        if self._behind:
            if line != b"\r\n":
                raise _no_end()
            self._behind = False
        elif self._trailers < 0:
            size = _SIZE.fullmatch(line)
            if size is None:
                raise HttpError(f"chunk size {line[:80]!r}")
            self._data = int(size[1], 16)
            self._trailers = -1 if self._data else 0
        else:
            return line == b"\r\n" or self._trailer(line.decode("latin-1"))
        return False

    def _trailer(self, line: str) -> bool:
        self._trailers += 1
        field = FIELD.fullmatch(line)
        if field is None or field[1].lower() in _NO_TRAILERS:
            raise HttpError(f"trailer {line[:80].rstrip()!r}")
        if self._trailers > MOST_FIELDS:
            raise HttpError(f"more than {MOST_FIELDS} trailers", 431)
        return False


def _no_end() -> HttpError:
    return HttpError("a chunk does not end with CR LF where its size says")
