"""One replica: how many frames it has, whether it may get more, and when it is tried again."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from cpuserve.video.replica_link import FramesAnswered, ReplicaLink

__all__ = ["Replica"]

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 15.0
_QUANTILES = 20
_KEPT = 1024  # of the last service times
_MOST_TOGETHER = 8
_OVERHEAD = 0.1  # of the time of a request that may be spent on sending it


@dataclass
class Replica:
    """What is known of one replica.

    Attributes:
        url: of its server.
        link: the connection to it.
        in_flight: most requests it has at a time.
        up: whether it may get frames, as far as its last answer tells.
        resume_at: when it may be tried again after it refused, on the clock of `time.monotonic`.
        reason: why it was left out the last time; empty if it never was.
        lasting: whether waiting alone will not mend that.
        outstanding: frames that it has now.
        requests: that it has now.
        most_together: frames that one request to it may hold, by what it refused so far.
        answered: frames that it has answered.
        failures: requests that failed there.
        refusals: requests for which it had no room.
        absences: how often it was left out.
        failed_in_a_row: requests that failed or found no room since its last answer.
    """

    url: str
    link: ReplicaLink
    in_flight: int
    up: bool = False
    resume_at: float = 0.0
    reason: str = ""
    lasting: bool = False
    outstanding: int = 0
    requests: int = 0
    most_together: int = _MOST_TOGETHER
    answered: int = 0
    failures: int = 0
    refusals: int = 0
    absences: int = 0
    failed_in_a_row: int = 0
    _service_s: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    _overhead_s: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    _round_trip_s: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))

    @property
    def free(self) -> bool:
        """Whether it takes one more request now. After a failure it gets one alone until it answers."""
        if not self.up or time.monotonic() < self.resume_at:
            return False
        return self.requests < (1 if self.failed_in_a_row else self.in_flight)

    def answered_frames(self, frames: int, took_s: float, found: FramesAnswered, *, alone: bool) -> None:
        """Note an answer, and what it took.

        Args:
            frames: how many the request had.
            took_s: seconds until the answer was here.
            found: the answer.
            alone: whether the replica had no other request then. Beside others a request also waits in places
                that the server does not see.
        """
        self.answered += frames
        self.failed_in_a_row = 0
        self._round_trip_s.append(took_s)
        if found.server_s is not None:
            self._service_s.append((found.server_s - found.queue_s) / frames)
            if alone:
                self._overhead_s.append(max(0.0, took_s - found.server_s))

    def left_out(
        self, reason: str, retry_after_s: float = 0.0, *, up: bool = False, lasting: bool = False
    ) -> None:
        """Give it no frames for a while, twice as long each time in a row.

        Args:
            reason: what went wrong.
            retry_after_s: the least pause it asked for, seconds.
            lasting: whether waiting alone will not mend it.
            up: it has only no room: it gets frames after the pause without being asked whether it is ready.
        """
        self.failed_in_a_row += 1
        self.absences += self.up
        pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(16, self.failed_in_a_row - 1))
        self.resume_at = time.monotonic() + max(pause, min(retry_after_s, _LONGEST_PAUSE_S))
        self.up, self.reason, self.lasting = up, reason, lasting

    def together(self) -> int:
        """Frames a request, so that sending it costs little beside answering them.

        One where that costs less than a tenth anyway, or where the server does not say what it took.
        """
        if not self._service_s or not self._overhead_s:
            return 1
        service, overhead = _middle(self._service_s), min(self._overhead_s)
        needed = overhead / max(1e-6, _OVERHEAD * service)
        return max(1, min(self.most_together, round(needed)))

    def report(self) -> dict[str, Any]:
        """What it did, for a run's statistics."""
        found: dict[str, Any] = {
            "url": self.url,
            "frames": self.answered,
            "failures": self.failures,
            "refusals": self.refusals,
            "absences": self.absences,
            "reason": self.reason,
        }
        if self._round_trip_s:
            found["round_trip_ms"] = round(1000 * _middle(self._round_trip_s), 3)
        if self._service_s:
            ordered = sorted(self._service_s)
            places = [round((len(ordered) - 1) * (step + 0.5) / _QUANTILES) for step in range(_QUANTILES)]
            found["service_ms"] = round(1000 * sum(ordered) / len(ordered), 3)
            found["service_quantiles_ms"] = [round(1000 * ordered[place], 3) for place in places]
        if self._overhead_s:
            found["overhead_ms"] = round(1000 * min(self._overhead_s), 3)
        return found


def _middle(values: deque[float]) -> float:
    return sorted(values)[len(values) // 2]
