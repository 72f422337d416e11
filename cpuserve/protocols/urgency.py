"""What a client says of its request's urgency: deadline and priority; it decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

__all__ = ["Urgency", "urgency_of"]

DEFAULT_PRIORITY = 1 << 30
_LOOK_AT_BYTES = 1 << 16
_Body = bytes | bytearray | memoryview


@dataclass(slots=True)
class Urgency:
    """How urgent a request is.

    Attributes:
        timeout_s: seconds from its arrival to its deadline.
        priority: 1 is run first, larger later; requests that say nothing come last.
    """

    timeout_s: float
    priority: int


def urgency_of(environ: Mapping[str, Any], body: _Body, default_timeout_s: float) -> Urgency:
    """Read deadline and priority.

    They come from the headers ``X-Request-Timeout-Ms`` and ``X-Request-Priority``, or from the parameters
    ``timeout`` (microseconds) and ``priority`` of an Open Inference Protocol request. What cannot be read
    counts as not said; a deadline later than the default counts as the default.

    Args:
        environ: of WSGI, with the headers.
        body: the whole body.
        default_timeout_s: for requests that say nothing; also the most a request may ask for.
    """
    timeout_s, priority = default_timeout_s, DEFAULT_PRIORITY
    if "HTTP_X_REQUEST_TIMEOUT_MS" in environ:
        timeout_s = min(timeout_s, _number(environ["HTTP_X_REQUEST_TIMEOUT_MS"], 1e3) or timeout_s)
    if "HTTP_X_REQUEST_PRIORITY" in environ:
        priority = int(_number(environ["HTTP_X_REQUEST_PRIORITY"], 1) or priority)
    if body[:1] == b"{":
        json_bytes = len(body)
        if "HTTP_INFERENCE_HEADER_CONTENT_LENGTH" in environ:
            json_bytes = int(_number(environ["HTTP_INFERENCE_HEADER_CONTENT_LENGTH"], 1) or 0)
        head = bytes(body[: min(json_bytes, _LOOK_AT_BYTES)])
        if (b'"timeout"' in head or b'"priority"' in head) and len(head) == min(json_bytes, len(body)):
            parameters = _parameters(head)
            microseconds, asked = parameters.get("timeout"), parameters.get("priority")
            if type(microseconds) is int and microseconds > 0:
                timeout_s = min(timeout_s, microseconds / 1e6)
            if type(asked) is int and asked > 0:
                priority = asked
    return Urgency(timeout_s, priority)


def _number(value: str, unit: float) -> float | None:
    """A positive number in a header, divided by its unit; None for anything else."""
    return int(value) / unit if len(value) < 10 and value.isdecimal() and int(value) > 0 else None


def _parameters(head: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(head)
    except orjson.JSONDecodeError:
        return {}
    parameters = document.get("parameters") if isinstance(document, dict) else None
    return parameters if isinstance(parameters, dict) else {}
