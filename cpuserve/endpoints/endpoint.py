"""One server among several: what it has to do, whether it may get more, and when it is tried again."""

from __future__ import annotations

import time
from dataclasses import dataclass

__all__ = ["Endpoint"]

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 15.0


@dataclass(eq=False)
class Endpoint:
    """What is known of one server.

    Attributes:
        url: of the server.
        in_flight: most requests it has at a time.
        up: whether it may be asked, as far as its last answer tells.
        resume_at: when it may be tried again after it refused, on the clock of `time.monotonic`.
        reason: why it was left out the last time; empty if it never was.
        lasting: whether waiting alone will not mend that.
        gone: whether it is no longer among the servers; it gets nothing more.
        outstanding: what it has to answer now: frames, or requests.
        requests: that it has now.
        answered: frames or requests that it has answered.
        failures: requests that failed there.
        refusals: requests for which it had no room.
        absences: how often it was left out.
        failed_in_a_row: requests that failed or found no room since its last answer.
        chosen_ns: when it was chosen last, on the clock of `time.monotonic_ns`.
    """

    url: str
    in_flight: int
    up: bool = False
    resume_at: float = 0.0
    reason: str = ""
    lasting: bool = False
    gone: bool = False
    outstanding: int = 0
    requests: int = 0
    answered: int = 0
    failures: int = 0
    refusals: int = 0
    absences: int = 0
    failed_in_a_row: int = 0
    chosen_ns: int = 0

    @property
    def free(self) -> bool:
        """Whether it takes one more request now. After a failure it gets one alone until it answers."""
        if not self.up or self.gone or time.monotonic() < self.resume_at:
            return False
        return self.requests < (1 if self.failed_in_a_row else self.in_flight)

    @property
    def load(self) -> tuple[int, int]:
        """What servers are chosen by: the one with the least gets the next request, of equal ones in turn."""
        return self.outstanding, self.chosen_ns

    @property
    def due(self) -> bool:
        """Whether it is time to ask it whether it is ready again."""
        return not self.up and not self.gone and time.monotonic() >= self.resume_at

    def chosen(self, count: int = 1) -> None:
        """Note a request of so many frames, or for one answer."""
        self.outstanding += count
        self.requests += 1
        self.chosen_ns = time.monotonic_ns()

    def answers(self, count: int = 1) -> None:
        """Note that it has answered."""
        self.answered += count
        self.failed_in_a_row = 0

    def left_out(
        self, reason: str, retry_after_s: float = 0.0, *, up: bool = False, lasting: bool = False
    ) -> None:
        """Ask it nothing for a while, twice as long each time in a row.

        Args:
            reason: what went wrong.
            retry_after_s: the least pause it asked for, seconds.
            lasting: whether waiting alone will not mend it.
            up: it has only no room: it is asked after the pause without being asked whether it is ready.
        """
        self.failed_in_a_row += 1
        self.absences += self.up
        pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(16, self.failed_in_a_row - 1))
        self.resume_at = time.monotonic() + max(pause, min(retry_after_s, _LONGEST_PAUSE_S))
        self.up, self.reason, self.lasting = up, reason, lasting
