"""Parses JSON bodies within a limit of values and a deadline."""

from __future__ import annotations

import math
import time
from typing import Any

import orjson

from cpuserve.errors import DeadlineExceeded, RequestError, TooManyElements

__all__ = ["MAX_JSON_ELEMENTS", "read_json"]

MAX_JSON_ELEMENTS = 2_000_000
_LARGE_BYTES = 1 << 16  # less is read faster than a clock is worth looking at
_STEP = 1 << 18  # bytes counted at a time, which stay in the CPU's cache
_OPENERS = (b",", b"[", b"{", b":")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # tools of Windows write it
_now = time.monotonic


def read_json(body: memoryview | bytes, max_elements: int = MAX_JSON_ELEMENTS, due: float = math.inf) -> Any:
    """Parse a JSON body.

    The parser holds the interpreter's lock until it has made every value, so the values are counted first:
    each value and each key stands behind one of ``, [ { :``, and counting those takes little time.

    Args:
        body: the JSON text.
        max_elements: most values it may hold.
        due: the request's deadline, on the clock of `time.monotonic`.

    Raises:
        TooManyElements: it may hold more values.
        DeadlineExceeded: the deadline is over, before or after parsing.
        RequestError: it is not JSON.
    """
    size = len(body)
    if size > max_elements:
        _check_elements(body, max_elements)
    if size > _LARGE_BYTES:
        _check_time(due)
    try:
        document = orjson.loads(body[3:] if body[:3] == _BYTE_ORDER_MARK else body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the request is not JSON: {error}") from None
    if size > _LARGE_BYTES:
        _check_time(due)
    return document


def _check_elements(body: memoryview | bytes, most: int) -> None:
    found = 0
    for start in range(0, len(body), _STEP):
        part = bytes(body[start : start + _STEP])
        found += sum(part.count(opener) for opener in _OPENERS)
        if found > most:
            raise TooManyElements(
                f"the JSON has more than {most} values, counted by commas, colons and brackets (setting "
                "max_json_elements); send tensors as binary data (Inference-Header-Content-Length) and a "
                "picture as the body itself"
            )


def _check_time(due: float) -> None:
    if _now() > due:
        raise DeadlineExceeded(
            "dropped while its JSON was read: its deadline is over (header X-Request-Timeout-Ms, setting "
            "deadline_ms); binary data are read faster"
        )
