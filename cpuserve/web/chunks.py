"""The chunks of a request body (RFC 9112, section 7.1), from bytes as they come; it does not limit bodies."""

from __future__ import annotations

from httptools import HttpParserError, HttpRequestParser

from cpuserve.web.head import LINE_BYTES, MOST_FIELDS, HttpError, ends

__all__ = ["Chunks"]

_HEAD = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
_NO_TRAILERS = frozenset(  # RFC 9110, section 6.5.1
    (b"authorization", b"content-length", b"host", b"te", b"trailer", b"transfer-encoding")
)
_OVERHEAD_BYTES = 256  # of a chunk, beside its data: size, extensions, ends of lines


class Chunks:
    """Reads the chunks of one body, by llhttp as heads are; trailers are checked and left out.

    Args:
        body: what they carry is added to it.

    Attributes:
        body: the same.
    """

    def __init__(self, body: bytearray) -> None:
        self.body = body
        self._fed = self._chunks = 0
        self._trailers: list[bytes] = []
        self._whole = False
        self._parser = HttpRequestParser(self)
        self._parser.feed_data(_HEAD)
        self._trailers.clear()  # the field of that head is none

    def on_chunk_header(self) -> None:
        """For httptools: a chunk begins."""
        self._chunks += 1

    def on_body(self, part: bytes) -> None:
        """For httptools: data of a chunk."""
        self.body += part

    def on_header(self, name: bytes, _value: bytes) -> None:
        """For httptools: a trailer."""
        self._trailers.append(name.lower())

    def on_message_complete(self) -> None:
        """For httptools: the body is whole."""
        self._whole = True

    def feed(self, data: bytes | memoryview) -> memoryview | None:
        """Take the next bytes.

        Returns:
            What came behind the body, or None until it is whole.

        Raises:
            HttpError: they are no chunks, or have more beside their data than they may.
        """
        data, at = bytes(data), 0
        for end in ends(data, begun=self._fed > 0):
            try:
                self._parser.feed_data(data[at:end])
            except HttpParserError as error:
                raise HttpError(str(error)) from None
            self._fed += end - at
            at = end
            if not _NO_TRAILERS.isdisjoint(self._trailers):
                raise HttpError(f"trailers {b', '.join(self._trailers)[:80]!r}: some of them are none")
            if len(self._trailers) > MOST_FIELDS:
                raise HttpError(f"more than {MOST_FIELDS} trailers", 431)
            if self._fed - len(self.body) > LINE_BYTES + self._chunks * _OVERHEAD_BYTES:
                raise HttpError("its chunks have too many bytes beside their data: extensions or trailers")
            if self._whole:
                return memoryview(data)[end:]
        return None
