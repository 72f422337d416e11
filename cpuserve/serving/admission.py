"""Which requests may wait, and when a refused one should come back; it refuses, it never queues."""

from __future__ import annotations

import time

from cpuserve.errors import DeadlineExceeded, QueueFull

__all__ = ["Admission"]

_MARGIN = 1.25  # under overload a thread also reads and refuses others' requests between two of its own
_NEW_SHARE = 0.05  # of the latest request in the running mean of the service time
_OUTDATED_S, _OUTDATED_SERVICES = 1.0, 2.0  # without a served request: then the mean is of another time


class Admission:
    """Bounds the requests that wait for a thread of one worker, in number and by their deadlines.

    Args:
        queue_size: requests that may wait.
        threads: requests that are served at the same time.
    """

    def __init__(self, queue_size: int, threads: int) -> None:
        self._queue_size = queue_size
        self._threads = threads
        self._service_s = 0.0
        self._served_at = 0.0

    @property
    def service_s(self) -> float:
        """Running mean of the time one request takes its thread, seconds."""
        return self._service_s

    def served(self, seconds: float) -> None:
        """Learn how long one request took its thread."""
        known = self._service_s
        self._served_at = time.monotonic()
        self._service_s = seconds if known == 0.0 else known + _NEW_SHARE * (seconds - known)

    def wait_s(self, waiting: int) -> float:
        """Seconds until a thread is free for a request behind ``waiting`` others."""
        return waiting * self._service_s / self._threads

    def admit(self, waiting: int, ahead: int, left_s: float) -> None:
        """Let one more request wait.

        Args:
            waiting: requests that wait already.
            ahead: those of them that will be run before it.
            left_s: seconds until its deadline.

        Raises:
            QueueFull: as many wait already as may, or it could not be answered before its deadline.
        """
        if waiting >= self._queue_size:
            raise QueueFull(
                f"{waiting} requests are waiting, the limit of a worker is {self._queue_size} "
                "(setting queue_size)",
                retry_after_s=self.wait_s(waiting),
            )
        needed = _MARGIN * (self.wait_s(ahead) + self._service_s)
        if needed > left_s and not self._forget():
            raise QueueFull(
                f"{ahead} requests are waiting before it: it would be answered after {1000 * needed:.0f} ms, "
                f"its deadline is in {1000 * left_s:.0f} ms (X-Request-Timeout-Ms, setting deadline_ms)",
                retry_after_s=needed - left_s,
            )

    def check(self, left_s: float) -> None:
        """Look at the deadline once more, when a request's turn has come.

        Raises:
            DeadlineExceeded: the deadline is over, or will be before an answer is there.
        """
        if left_s < _MARGIN * self._service_s and not self._forget():
            raise DeadlineExceeded(
                f"dropped before inference: {1000 * left_s:.0f} ms were left of its deadline, it takes "
                f"about {1000 * self._service_s:.0f} ms (header X-Request-Timeout-Ms, setting deadline_ms)"
            )

    def _forget(self) -> bool:
        """Forget a service time that nothing has confirmed for long, and say whether it was so.

        A process that was frozen, or a machine that swapped, learns a time beyond every deadline. It would
        refuse all there is, and never learn that it is quick again.
        """
        outdated = max(_OUTDATED_S, _OUTDATED_SERVICES * self._service_s)
        if time.monotonic() - self._served_at < outdated:
            return False
        self._service_s = 0.0
        return True
