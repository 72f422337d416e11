"""One replica: a server with what is known of its times and of how many frames it takes at once."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from cpuserve.endpoints.endpoint import Endpoint
from cpuserve.video.replica_link import FramesAnswered, ReplicaLink

__all__ = ["Replica"]

_QUANTILES = 20
_KEPT = 1024  # of the last service times
_MOST_TOGETHER = 8
_OVERHEAD = 0.1  # of the time of a request that may be spent on sending it


@dataclass(eq=False)
class Replica(Endpoint):
    """A server that answers frames.

    Attributes:
        link: the connection to it.
        most_together: frames that one request to it may hold, by what it refused so far.
    """

    link: ReplicaLink = field(kw_only=True)
    most_together: int = _MOST_TOGETHER
    _service_s: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    _overhead_s: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    _round_trip_s: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def answered_frames(self, frames: int, took_s: float, found: FramesAnswered, *, alone: bool) -> None:
        """Note an answer, and what it took.

        Args:
            frames: how many the request had.
            took_s: seconds until the answer was here.
            found: the answer.
            alone: whether the replica had no other request then. Beside others a request also waits in places
                that the server does not see.
        """
        self.answers(frames)
        self._round_trip_s.append(took_s)
        if found.server_s is not None:
            self._service_s.append((found.server_s - found.queue_s) / frames)
            if alone:
                self._overhead_s.append(max(0.0, took_s - found.server_s))

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
