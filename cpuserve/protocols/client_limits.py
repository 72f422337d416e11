"""Limits on what one client may take of the server."""

from __future__ import annotations

from dataclasses import dataclass

from cpuserve.protocols.json_body import MAX_JSON_ELEMENTS
from cpuserve.serving.request import MAX_ANSWER_BYTES

__all__ = ["ClientLimits"]


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """What one client may take.

    Attributes:
        max_body_bytes: largest body, as sent and inflated.
        request_timeout_s: seconds from the first byte of a request to its last.
        keep_alive_s: seconds between requests.
        max_json_elements: most values in a JSON body.
        max_answer_bytes: most bytes of outputs in an answer.
        max_pictures: most pictures in a request.
    """

    max_body_bytes: int = 32 << 20
    request_timeout_s: float = 30.0
    keep_alive_s: float = 75.0
    max_json_elements: int = MAX_JSON_ELEMENTS
    max_answer_bytes: int = MAX_ANSWER_BYTES
    max_pictures: int = 1024
