"""Decides which requests may wait for a thread, and when a refused one should come back."""

from __future__ import annotations

import time
from dataclasses import dataclass

from cpuserve.errors import DeadlineExceeded, QueueFull

__all__ = ["Admission"]

_NEW_SHARE = 0.05  # of the latest request in the running means
_OUTDATED_S, _OUTDATED_SERVICES = 1.0, 2.0  # after so long without a served request the mean no longer counts
_KINDS = 256  # kinds of requests that are remembered; the one served longest ago is forgotten first
_MARGIN_AT_FIRST, _MARGIN_LEAST, _MARGIN_MOST = 1.25, 1.05, 3.0
# The margin is a running quantile: one accepted request in a hundred may take longer than was allowed for.
_LATE_SHARE = 0.01
_LATER = 1.05
_EARLIER = 1 - (_LATER - 1) * _LATE_SHARE / (1 - _LATE_SHARE)
_TELLING = 0.5  # share of its time limit that a request must be expected to need, to adjust the margin by it


@dataclass(slots=True)
class _Kind:
    """What was learned of one kind of request for one model.

    Attributes:
        service_s: running mean of the time one takes its thread.
        deviation_s: running mean of how far each is from that.
        margin: how many times as long as expected a request may take until it is answered.
        served_at: when the latest was answered, on the clock of `time.monotonic`.
    """

    service_s: float
    deviation_s: float
    margin: float
    served_at: float


class Admission:
    """Bounds the requests that wait for a thread of one worker, in number and by their deadlines.

    It learns, for each kind of request, how long one takes and how wrong its expectations were.

    Args:
        queue_size: requests that may wait.
        threads: requests that are served at the same time.
    """

    def __init__(self, queue_size: int, threads: int) -> None:
        self.queue_size = queue_size
        self._threads = threads
        self._kinds: dict[str, _Kind] = {}

    def service_s(self, kind: str) -> float:
        """Running mean of the time a request of this kind takes its thread, seconds; 0 for an unknown one."""
        known = self._kinds.get(kind)
        return 0.0 if known is None else known.service_s

    def served(self, kind: str, seconds: float, now: float) -> None:
        """Learn how long one request took its thread, until ``now`` on the clock of `time.monotonic`."""
        known = self._kinds.get(kind)
        if known is None:
            while len(self._kinds) >= _KINDS:
                oldest = min(self._kinds, key=lambda one: self._kinds[one].served_at)
                self._kinds.pop(oldest, None)  # another thread may have been faster
            self._kinds[kind] = _Kind(seconds, 0.0, _MARGIN_AT_FIRST, now)
            return
        known.served_at = now
        if known.service_s == 0.0:
            known.service_s = seconds
            return
        off = seconds - known.service_s
        known.service_s += _NEW_SHARE * off
        known.deviation_s += _NEW_SHARE * (abs(off) - known.deviation_s)

    def answered(self, kind: str, expected_s: float, took_s: float, timeout_s: float) -> None:
        """Learn how right an expectation was; it counts only if it was a good part of the time allowed.

        Args:
            kind: of the request.
            expected_s: what `admit` gave for it.
            took_s: seconds from its arrival to its answer.
            timeout_s: seconds from its arrival to its deadline.
        """
        known = self._kinds.get(kind)
        if known is None or expected_s * known.margin < _TELLING * timeout_s:
            return
        if took_s > expected_s * known.margin:
            known.margin = min(_MARGIN_MOST, known.margin * _LATER)
        else:
            known.margin = max(_MARGIN_LEAST, known.margin * _EARLIER)

    def admit(self, kind: str, waiting: int, ahead: int, ahead_s: float, left_s: float) -> float:
        """Let one more request wait, or refuse it.

        Args:
            kind: of the request.
            waiting: requests that wait already.
            ahead: those of them that will be run before it.
            ahead_s: seconds that these take one thread.
            left_s: seconds until its deadline.

        Returns:
            The seconds until its answer that are expected, without the margin.

        Raises:
            QueueFull: as many wait already as may, or it could not be answered before its deadline.
        """
        self._check_count(waiting, ahead_s)
        known = self._kinds.get(kind)
        margin = _MARGIN_AT_FIRST if known is None else known.margin
        expected_s = ahead_s / self._threads + (0.0 if known is None else known.service_s)
        needed = margin * expected_s
        if needed > left_s and known is not None and self._forget(known):
            expected_s = ahead_s / self._threads
            needed = margin * expected_s
        if needed > left_s:
            raise _too_late(ahead, needed, left_s)
        return expected_s

    def expect_room(self, waiting: int, ahead: int, ahead_s: float, left_s: float) -> None:
        """Refuse a request of which it is not known yet what it asks for, if `admit` would in any case.

        Args:
            waiting: requests that wait already.
            ahead: those of them that will be run before it, at least.
            ahead_s: seconds that these take one thread.
            left_s: seconds until its deadline, at most.

        Raises:
            QueueFull: as `admit` does.
        """
        self._check_count(waiting, ahead_s)
        expected_s = ahead_s / self._threads
        needed = _MARGIN_AT_FIRST * expected_s  # of a kind that is new
        if needed <= left_s:
            return
        now = time.monotonic()
        for known in list(self._kinds.values()):
            own_s = 0.0 if _outdated(known, now) else known.service_s
            needed = min(needed, known.margin * (expected_s + own_s))
        if needed > left_s:
            raise _too_late(ahead, needed, left_s)

    def _check_count(self, waiting: int, ahead_s: float) -> None:
        if waiting >= self.queue_size:
            raise QueueFull(
                f"{waiting} requests are waiting, the limit of a worker is {self.queue_size} "
                "(setting queue_size)",
                retry_after_s=ahead_s / self._threads,
            )

    def check(self, kind: str, left_s: float) -> None:
        """Check the deadline once more, when a request's turn has come.

        Raises:
            DeadlineExceeded: the deadline is over, or will be before the answer is ready.
        """
        known = self._kinds.get(kind)
        needed = 0.0 if known is None else known.service_s + known.deviation_s
        if left_s < needed and known is not None and self._forget(known):
            needed = 0.0
        if left_s < needed:
            raise DeadlineExceeded(
                f"dropped before inference: {1000 * left_s:.0f} ms were left of its deadline, it takes "
                f"about {1000 * needed:.0f} ms (header X-Request-Timeout-Ms, setting deadline_ms)"
            )

    def _forget(self, known: _Kind) -> bool:
        """Forget a service time that was not confirmed for long; returns whether it was forgotten.

        A process that was frozen, or a machine that swapped, learns a time beyond every deadline. It would
        refuse every request, and never learn that it is fast again.
        """
        if not _outdated(known, time.monotonic()):
            return False
        known.service_s = known.deviation_s = 0.0
        return True


def _outdated(known: _Kind, now: float) -> bool:
    return now - known.served_at >= max(_OUTDATED_S, _OUTDATED_SERVICES * known.service_s)


def _too_late(ahead: int, needed_s: float, left_s: float) -> QueueFull:
    return QueueFull(
        f"{ahead} requests are waiting before it: it would be answered after {1000 * needed_s:.0f} ms, "
        f"its deadline is in {1000 * max(0, left_s):.0f} ms (X-Request-Timeout-Ms, setting deadline_ms)",
        retry_after_s=needed_s - left_s,
    )
