"""Header blocks of gRPC over HTTP/2: a request's fields are written, an answer's status is read.

Requests refer to the fields of the first one, as those of gRPC's own clients do, so that the server has as
little to read. Of answers no block depends on an earlier one: the server's encoder is allowed no table.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

__all__ = ["EMPTY_TABLE", "RequestFields", "read_statuses", "request_fields", "timeout_field"]

EMPTY_TABLE = b"\x20"
"""Empties the table, in front of the first fields that do without it."""

_METHOD_POST, _SCHEME_HTTP = b"\x83", b"\x86"  # whole fields of the static table
_AUTHORITY, _PATH, _CONTENT_TYPE, _USER_AGENT = 1, 4, 31, 58  # names of the static table
_STATIC_FIELDS = 61
_ENTRY_BYTES = 32  # of the table, beside those of name and value
_STATIC_STATUSES = {8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500}
_FIELD, _INDEXED_LITERAL, _TABLE_SIZE = 0x80, 0x40, 0x20  # the first set bit says what an entry is
_LONGEST_SHIFT = 28  # of a number's bits: no length is longer
_HUFFMAN = {
    **{"0": "00000", "1": "00001", "2": "00010", "3": "011001", "4": "011010"},
    **{"5": "011011", "6": "011100", "7": "011101", "8": "011110", "9": "011111"},
    **{"a": "00011", "c": "00100", "g": "100110", "p": "101011", "r": "101100", "s": "01000"},
    **{"t": "01001", "u": "101101", "-": "010110", ":": "1011100"},
}
"""Bits of the characters that a status' name and value have."""

_Text = tuple[bool, bytes]  # whether it is Huffman-coded, and its bytes


def _spellings(text: str) -> tuple[_Text, _Text]:
    """Both ways to write a text, so that none needs decoding: a text has one Huffman code."""
    bits = "".join(_HUFFMAN[character] for character in text)
    size = -(-len(bits) // 8)
    coded = int(bits.ljust(8 * size, "1"), 2).to_bytes(size, "big")
    return (False, text.encode()), (True, coded)


_HTTP_NAMES = set(_spellings(":status"))
_GRPC_NAMES = set(_spellings("grpc-status"))
_NUMBERS = {spelling: number for number in range(600) for spelling in _spellings(str(number))}
_NO_NUMBER = 2  # UNKNOWN, in the place of a status that is no number


class RequestFields(NamedTuple):
    """The fields that all requests to a method have in common.

    Attributes:
        alone: without a table.
        first: those of the first request of a connection; the server keeps them in its table.
        later: of further requests, by their places there.
        table_bytes: that they take there.
    """

    alone: bytes
    first: bytes
    later: bytes
    table_bytes: int


def request_fields(path: str, authority: str) -> RequestFields:
    """The fields of requests to a method."""
    fields: tuple[tuple[int, str, str], ...] = (
        (_PATH, ":path", path),
        (_AUTHORITY, ":authority", authority),
        (0, "te", "trailers"),
        (_CONTENT_TYPE, "content-type", "application/grpc"),
        (_USER_AGENT, "user-agent", "cpuserve-load"),
    )
    fixed = _METHOD_POST + _SCHEME_HTTP
    alone = [_literal(index or name, text) for index, name, text in fields]
    first = [_literal(index or name, text, indexed=True) for index, name, text in fields]
    newest = _STATIC_FIELDS + 1  # the place of what was kept last
    later = bytes(_FIELD | newest + place for place in reversed(range(len(fields))))
    size = sum(len(name) + len(text) + _ENTRY_BYTES for _, name, text in fields)
    return RequestFields(fixed + b"".join(alone), fixed + b"".join(first), fixed + later, size)


@lru_cache(1 << 16)
def timeout_field(milliseconds: int) -> bytes:
    """The field that tells the server how long a call may take."""
    if milliseconds < 10**8:  # eight digits at most
        return _literal("grpc-timeout", f"{milliseconds}m")
    return _literal("grpc-timeout", f"{milliseconds // 1000}S")


@lru_cache(256)
def read_statuses(block: bytes) -> tuple[int | None, int | None]:
    """The status of HTTP and of gRPC that a block of an answer has; None where it has none.

    Raises:
        ValueError: if it is no header block, or needs a dynamic table.
    """
    at, http, grpc = 0, None, None
    try:
        while at < len(block):
            first = block[at]
            if first & _FIELD:
                index, at = _number(block, at, 7)
                http = _STATIC_STATUSES.get(_static(index), http)
            elif first & _INDEXED_LITERAL or not first & _TABLE_SIZE:
                index, at = _number(block, at, 6 if first & _INDEXED_LITERAL else 4)
                name, at = (None, at) if index else _text(block, at)
                text, at = _text(block, at)
                if _static(index) in _STATIC_STATUSES or name in _HTTP_NAMES:
                    http = _NUMBERS.get(text)
                elif name in _GRPC_NAMES:
                    grpc = _NUMBERS.get(text, _NO_NUMBER)
            else:
                _, at = _number(block, at, 5)  # a size of the table: the table stays empty
    except IndexError:
        raise ValueError("a header block ends too early") from None
    return http, grpc


def _static(index: int) -> int:
    if index > _STATIC_FIELDS:
        raise ValueError("a header block refers to a dynamic table, which is not allowed")
    return index


def _number(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """A number that begins with the last bits of a byte, and where the rest of the block begins."""
    most = (1 << bits) - 1
    number = block[at] & most
    at += 1
    if number < most:
        return number, at
    for shift in range(0, _LONGEST_SHIFT, 7):
        number += (block[at] & 0x7F) << shift
        at += 1
        if block[at - 1] < 0x80:
            return number, at
    raise ValueError("a number of a header block is too long")


def _text(block: bytes, at: int) -> tuple[_Text, int]:
    coded = block[at] >= 0x80
    length, at = _number(block, at, 7)
    if at + length > len(block):
        raise ValueError("a header block ends too early")
    return (coded, block[at : at + length]), at + length


def _literal(name: str | int, text: str, *, indexed: bool = False) -> bytes:
    """A field with a literal name or one of the static table.

    Args:
        name: or its place there.
        text: its value.
        indexed: whether the peer shall keep it in its table.
    """
    kind, bits = (_INDEXED_LITERAL, 6) if indexed else (0, 4)
    value = _written(len(text), 7) + text.encode()
    if isinstance(name, int):
        return _written(name, bits, kind) + value
    return bytes((kind,)) + _written(len(name), 7) + name.encode() + value


def _written(number: int, bits: int, kind: int = 0) -> bytes:
    """A number in the last bits of a byte and those that follow; ``kind`` is in the first bits."""
    most = (1 << bits) - 1
    if number < most:
        return bytes((kind | number,))
    number -= most
    found = bytearray((kind | most,))
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
