"""A whole request that waits for a thread, with its times."""

from __future__ import annotations

from dataclasses import dataclass

from cpuserve.http.connection import Connection

__all__ = ["QueuedRequest"]


@dataclass(slots=True)
class QueuedRequest:
    """A whole request that waits for its turn.

    Attributes:
        connection: has the request.
        kind: its path, by which its service time is known.
        since: when it arrived at the latest, on the clock of `time.monotonic`.
        timeout_s: seconds from then to its deadline.
        queued: when it was read, on the same clock.
        expected_s: seconds from then to its expected answer.
    """

    connection: Connection
    kind: str
    since: float
    timeout_s: float
    queued: float
    expected_s: float
