"""What a client says of its request's urgency: deadline and priority; it decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

__all__ = ["Terms", "terms_of"]

DEFAULT_PRIORITY = 1 << 30
_LOOK_AT_BYTES = 1 << 16
_Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Terms:
    """How urgent a request is.

    Attributes:
        timeout_s: seconds from its arrival to its deadline.
        priority: 1 is run first, larger later; requests that say nothing come last.
    """

    timeout_s: float
    priority: int


def terms_of(headers: _Headers, body: bytes | bytearray, default_timeout_s: float) -> Terms:
    """Read deadline and priority.

    They come from the headers ``X-Request-Timeout-Ms`` and ``X-Request-Priority``, or from the parameters
    ``timeout`` (microseconds) and ``priority`` of an Open Inference Protocol request. What cannot be read
    counts as not said; a deadline later than the default counts as the default.

    Args:
        headers: names in lower case, and values.
        body: the whole body.
        default_timeout_s: for requests that say nothing; also the most a request may ask for.
    """
    timeout_s, priority, json_bytes = default_timeout_s, DEFAULT_PRIORITY, len(body)
    for name, value in headers:
        if name == b"x-request-timeout-ms":
            timeout_s = min(timeout_s, _number(value, 1e3) or timeout_s)
        elif name == b"x-request-priority":
            priority = int(_number(value, 1) or priority)
        elif name == b"inference-header-content-length":
            json_bytes = int(_number(value, 1) or 0)
    if body[:1] == b"{":
        head = bytes(body[: min(json_bytes, _LOOK_AT_BYTES)])
        if (b'"timeout"' in head or b'"priority"' in head) and len(head) == min(json_bytes, len(body)):
            parameters = _parameters(head)
            microseconds, asked = parameters.get("timeout"), parameters.get("priority")
            if type(microseconds) is int and microseconds > 0:
                timeout_s = min(timeout_s, microseconds / 1e6)
            if type(asked) is int and asked > 0:
                priority = asked
    return Terms(timeout_s, priority)


def _number(value: bytes, unit: float) -> float | None:
    """A positive number in a header, divided by its unit; None for anything else."""
    return int(value) / unit if len(value) < 10 and value.isdigit() and int(value) > 0 else None


def _parameters(head: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(head)
    except orjson.JSONDecodeError:
        return {}
    parameters = document.get("parameters") if isinstance(document, dict) else None
    return parameters if isinstance(parameters, dict) else {}
