"""Decompresses request bodies within limits."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from cpuserve.errors import BodyTooLarge, RequestError

__all__ = ["inflate"]

_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_STEP_BYTES = 1 << 16  # given to zlib at a time: it copies what it does not use
_ROOM_BYTES = 1 << 18  # taken from zlib at a time
_MOST_MEMBERS = 1000


def inflate(data: memoryview, coding: str, limit: int, take: Callable[[int], None]) -> memoryview:
    """Decompress a body; a gzip body may have several members (RFC 1952, section 2.2).

    Args:
        data: the body.
        coding: the Content-Encoding it was sent with.
        limit: most bytes it may inflate to.
        take: called with a number of bytes before memory is taken for them; may raise.

    Raises:
        RequestError: a coding that is not gzip or deflate, or data in another format.
        BodyTooLarge: it inflates to more bytes.
    """
    bits = _WINDOW_BITS.get(coding)
    if bits is None:
        raise RequestError(f"Content-Encoding {coding[:80]!r} is not understood; send gzip, deflate or none")
    out = bytearray()
    at = members = 0
    while not members or (coding == "gzip" and at < len(data)):
        members += 1
        if members > _MOST_MEMBERS:
            raise RequestError(f"the gzip body has more than {_MOST_MEMBERS} members")
        try:
            at = _inflate_member(data, at, zlib.decompressobj(bits), out, limit, take)
        except zlib.error as error:
            raise RequestError(f"the body is not {coding}: {error} in what begins at byte {at}") from None
        if at < 0:
            raise RequestError(f"the {coding} body ends too early")
    if at < len(data):
        raise RequestError(f"the {coding} body has {len(data) - at} bytes behind its end")
    return memoryview(out)


def _inflate_member(
    data: memoryview,
    at: int,
    inflater: zlib._Decompress,
    out: bytearray,
    limit: int,
    take: Callable[[int], None],
) -> int:
    """Inflate one member; gives where it ends, or -1 when the data end first."""
    while True:
        piece = data[at : at + _STEP_BYTES]
        part = inflater.decompress(piece, min(_ROOM_BYTES, limit + 1 - len(out)))
        if len(out) + len(part) > limit:
            raise BodyTooLarge(f"the body inflates to more than {limit} bytes (setting max_body_bytes)")
        take(len(part))
        out += part
        if inflater.eof:
            return at + len(piece) - len(inflater.unused_data)
        if not piece and not part:
            return -1
        at += len(piece) - len(inflater.unconsumed_tail)
