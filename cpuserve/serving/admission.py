"""How many requests may wait, and when a refused one should come back; it refuses, it never queues."""

from __future__ import annotations

from cpuserve.errors import QueueFull

__all__ = ["Admission"]

_NEW_SHARE = 0.05  # of the latest request in the running mean of the service time


class Admission:
    """Bounds the requests that wait for a thread of one worker.

    Args:
        queue_size: requests that may wait.
        threads: requests that are served at the same time.
    """

    def __init__(self, queue_size: int, threads: int) -> None:
        self._queue_size = queue_size
        self._threads = threads
        self._service_s = 0.0

    def served(self, seconds: float) -> None:
        """Learn how long one request took its thread."""
        known = self._service_s
        self._service_s = seconds if known == 0.0 else known + _NEW_SHARE * (seconds - known)

    def wait_s(self, waiting: int) -> float:
        """Seconds until a thread is free for a request behind ``waiting`` others."""
        return waiting * self._service_s / self._threads

    def admit(self, waiting: int) -> None:
        """Let one more request wait behind ``waiting`` others.

        Raises:
            QueueFull: as many wait already as may.
        """
        if waiting >= self._queue_size:
            raise QueueFull(
                f"{waiting} requests are waiting, the limit of a worker is {self._queue_size} "
                "(setting queue_size)",
                retry_after_s=self.wait_s(waiting),
            )
