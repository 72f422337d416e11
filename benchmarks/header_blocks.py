"""Header blocks of gRPC over HTTP/2: a request's fields are written, an answer's status is read.

No block depends on an earlier one, since the client allows the server's encoder no dynamic table.
"""

from __future__ import annotations

from functools import lru_cache

__all__ = ["EMPTY_TABLE", "read_statuses", "request_fields", "timeout_field"]

EMPTY_TABLE = b"\x20"
"""Begins the first block of a connection: no table is used, however small a table the server allows."""

_METHOD_POST, _SCHEME_HTTP = b"\x83", b"\x86"  # whole fields of the static table
_AUTHORITY, _PATH, _CONTENT_TYPE, _USER_AGENT = 1, 4, 31, 58  # names of the static table
_STATIC_FIELDS = 61
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


def request_fields(path: str, authority: str) -> bytes:
    """The fields that all requests to a method have in common."""
    return b"".join(
        (
            _METHOD_POST,
            _SCHEME_HTTP,
            _literal(_PATH, path),
            _literal(_AUTHORITY, authority),
            _literal("te", "trailers"),
            _literal(_CONTENT_TYPE, "application/grpc"),
            _literal(_USER_AGENT, "cpuserve-load"),
        )
    )


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


def _literal(name: str | int, text: str) -> bytes:
    """A field that the peer shall not index, with a literal name or one of the static table."""
    if isinstance(name, int):
        return _written(name, 4) + _written(len(text), 7) + text.encode()
    return b"\0" + _written(len(name), 7) + name.encode() + _written(len(text), 7) + text.encode()


def _written(number: int, bits: int) -> bytes:
    most = (1 << bits) - 1
    if number < most:
        return bytes((number,))
    number -= most
    found = bytearray((most,))
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
