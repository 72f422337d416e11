"""Reads how urgent a request is: its deadline and priority, from headers or V2 parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cpuserve.protocols.call import Call

__all__ = ["DEFAULT_PRIORITY", "MOST_URGENT", "Urgency", "urgency_of"]

MOST_URGENT, DEFAULT_PRIORITY = 1, 1 << 30
_LOOK_AT_BYTES = 1 << 16


@dataclass(slots=True)
class Urgency:
    """How urgent a request is.

    Attributes:
        timeout_s: seconds from its arrival to its deadline.
        priority: 1 is run first, larger later; requests that name none come last.
    """

    timeout_s: float
    priority: int


def urgency_of(call: Call, default_timeout_s: float) -> Urgency:
    """Read deadline and priority.

    They come from the headers ``X-Request-Timeout-Ms`` and ``X-Request-Priority``, or from the parameters
    ``timeout`` (microseconds) and ``priority`` of an Open Inference Protocol request. What cannot be read
    counts as not sent; a deadline later than the default counts as the default.

    Args:
        call: the request.
        default_timeout_s: for requests that name none; also the most a request may ask for.
    """
    timeout_s, priority, headers = default_timeout_s, DEFAULT_PRIORITY, call.headers
    if "x-request-timeout-ms" in headers:
        timeout_s = min(timeout_s, _number(headers["x-request-timeout-ms"], 1e3) or timeout_s)
    if "x-request-priority" in headers:
        priority = int(_number(headers["x-request-priority"], 1) or priority)
    data = call.data
    if data[:1] == b"{":
        size = len(data)
        if "inference-header-content-length" in headers:
            size = min(size, int(_number(headers["inference-header-content-length"], 1) or 0))
        if size <= _LOOK_AT_BYTES:
            head = bytes(data[:size])
            if b'"timeout"' in head or b'"priority"' in head:
                parameters = _parameters(call.peek_json(size))
                microseconds, asked = parameters.get("timeout"), parameters.get("priority")
                if type(microseconds) is int and microseconds > 0:
                    timeout_s = min(timeout_s, microseconds / 1e6)
                if type(asked) is int and asked > 0:
                    priority = asked
    return Urgency(timeout_s, priority)


def _number(value: str, unit: float) -> float | None:
    """A positive number in a header, divided by its unit; None for anything else."""
    return int(value) / unit if len(value) < 10 and value.isdecimal() and int(value) > 0 else None


def _parameters(document: Any) -> dict[str, Any]:
    parameters = document.get("parameters") if isinstance(document, dict) else None
    return parameters if isinstance(parameters, dict) else {}
