"""Parses chunked request bodies (RFC 9112, section 7.1) within limits, as their bytes come.

Sizes of chunks are parsed here, so that their data need not be searched. llhttp parses the trailers and the
heads.
"""

from __future__ import annotations

import re

from httptools import HttpParserError, HttpRequestParser

from cpuserve.errors import BodyTooLarge
from cpuserve.http.head import LINE_BYTES, MOST_FIELDS, HttpError, head_ends
from cpuserve.protocols.body_budget import BodyShare

__all__ = ["ChunkedBody"]

_HEAD = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
_NO_TRAILERS = frozenset(  # RFC 9110, section 6.5.1
    (b"authorization", b"content-length", b"host", b"te", b"trailer", b"transfer-encoding")
)
_LINE_BYTES = 256  # of a size with its extensions and its end
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t !-~\x80-\xff])*"'
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;%b(?:=(?:%b|%b))?)*\r\n" % (_TOKEN, _TOKEN, _QUOTED))
_ANY_SIZE = 10_000  # chunks that a body may have whatever their size
_BYTES_A_CHUNK = 256  # and bytes that it has for each chunk beyond
_CHUNKS_A_TURN = 512
_AHEAD_BYTES = 16 << 10
_END = b"\r\n"


class ChunkedBody:
    """Parses the chunks of one body; trailers are checked and dropped.

    Args:
        share: the budget that its memory counts against.
        most_bytes: largest body.

    Attributes:
        body: the data of the chunks.
        count: chunks that have begun.
        unread: bytes left for the next turn, after many small chunks.
    """

    def __init__(self, share: BodyShare, most_bytes: int) -> None:
        self.body = bytearray()
        self.count = 0
        self.unread = memoryview(b"")
        self._share = share
        self._most_bytes = most_bytes
        self._left = 0  # bytes of the chunk that are still to come
        self._line = b""  # what came of a size, or of the end of a chunk
        self._in_chunk = False
        self._trailers: _Trailers | None = None

    def feed(self, data: memoryview) -> memoryview | None:
        """Take the next bytes.

        Returns:
            What came behind the body, or None until it is whole.

        Raises:
            HttpError: they are not chunks, or too many small ones, or their trailers are wrong.
            BodyTooLarge: a chunk would make the body larger than it may be.
            BodiesTooLarge: the worker holds too many bytes of bodies.
        """
        at, size = 0, len(data)
        last = self.count + _CHUNKS_A_TURN
        self.unread = data[size:]
        while self._trailers is None and at < size:
            if self._left:
                part = data[at : at + self._left]
                self._add(part)
                at += len(part)
            elif self._in_chunk:
                at += self._end(data[at : at + len(_END)])
            elif self.count == last:
                self.unread = data[at:]
                return None
            else:
                at += self._begin(data[at : at + _LINE_BYTES])
        return self._trailers.feed(data[at:]) if self._trailers is not None else None

    def _add(self, part: memoryview) -> None:
        size = len(self.body) + len(part)
        if size > self._share.held:  # some more than these, so that not each small chunk asks
            self._share.take(min(self._most_bytes, size + _AHEAD_BYTES) - self._share.held)
        self.body += part
        self._left -= len(part)

    def _end(self, data: memoryview) -> int:
        """Take the end of a chunk; gives how many of its bytes were here."""
        line = self._line + bytes(data[: len(_END) - len(self._line)])
        if not _END.startswith(line):
            raise HttpError(f"a chunk ends with {line!r}")
        taken = len(line) - len(self._line)
        self._in_chunk = line != _END
        self._line = line if self._in_chunk else b""
        return taken

    def _begin(self, data: memoryview) -> int:
        """Take the size line of a chunk; gives how many of its bytes were here."""
        before = len(self._line)
        line = self._line + bytes(data[: _LINE_BYTES - before])
        found = _SIZE.match(line)
        if found is None:
            if b"\n" in line or len(line) == _LINE_BYTES:
                raise HttpError(f"the size of a chunk is {line.partition(_END)[0][:80]!r}")
            self._line = line
            return len(line) - before
        self._line = b""
        self._left = int(found[1], 16)
        self.count += 1
        if not self._left:
            self._trailers = _Trailers()
        elif len(self.body) + self._left > self._most_bytes:
            raise BodyTooLarge(
                f"the body has {len(self.body) + self._left} bytes or more, the limit is {self._most_bytes} "
                "bytes (setting max_body_bytes)"
            )
        elif self.count > _ANY_SIZE + len(self.body) // _BYTES_A_CHUNK:
            raise HttpError(
                f"its body has {self.count} chunks in {len(self.body)} bytes, the limit is {_ANY_SIZE} and "
                f"one more for every {_BYTES_A_CHUNK} bytes; send larger chunks"
            )
        self._in_chunk = self._left > 0
        return found.end() - before


class _Trailers:
    """Parses the trailers behind the last chunk, by llhttp."""

    def __init__(self) -> None:
        self._names: list[bytes] = []
        self._fed = 0
        self._whole = False
        self._parser = HttpRequestParser(self)
        self._parser.feed_data(_HEAD)
        self._names.clear()  # the field of that head is none

    def on_header(self, name: bytes, _value: bytes) -> None:
        """For httptools: a trailer."""
        self._names.append(name.lower())

    def on_message_complete(self) -> None:
        """For httptools: the body is whole."""
        self._whole = True

    def feed(self, data: memoryview) -> memoryview | None:
        """Take the next bytes; gives what came behind the body, or None until it is whole.

        Raises:
            HttpError: they are no trailers, or more than there may be.
        """
        piece, at = bytes(data[: LINE_BYTES + 1 - self._fed]), 0
        for end in head_ends(piece, begun=True):
            try:
                self._parser.feed_data(piece[at:end])
            except HttpParserError as error:
                raise HttpError(str(error)) from None
            self._fed += end - at
            at = end
            if not _NO_TRAILERS.isdisjoint(self._names):
                raise HttpError(f"trailers {b', '.join(self._names)[:80]!r}: some of them are none")
            if len(self._names) > MOST_FIELDS:
                raise HttpError(f"more than {MOST_FIELDS} trailers", 431)
            if self._whole:
                return data[end:]
        if self._fed > LINE_BYTES:
            raise HttpError(f"its trailers have more than {LINE_BYTES} bytes", 431)
        return None
