"""What one client may take of the server."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ClientLimits"]


@dataclass(frozen=True)
class ClientLimits:
    """What one client may take.

    Attributes:
        max_body_bytes: largest body.
        request_timeout_s: seconds from the first byte of a request to its last.
        keep_alive_s: seconds between requests.
    """

    max_body_bytes: int
    request_timeout_s: float
    keep_alive_s: float
