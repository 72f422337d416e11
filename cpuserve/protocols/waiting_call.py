"""What the queue of a worker needs of a request, by whatever transport it came."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from cpuserve.errors import CpuserveError
from cpuserve.protocols.call import Call, Reply
from cpuserve.protocols.urgency import Urgency

__all__ = ["WaitingCall"]


class WaitingCall(Protocol):
    """A whole request that waits for its answer.

    Attributes:
        call: the request.
    """

    call: Call

    @property
    def has_body(self) -> bool:
        """Whether it counts among the requests that infer, whose turns are apart from all others."""

    @property
    def target(self) -> str:
        """What it asks for, for the log."""

    def urgency(self, default_timeout_s: float) -> Urgency:
        """Its deadline and priority; its time runs from now."""

    def answer(self, reply: Reply, *, last: bool = False) -> None:
        """Send its answer; ``last`` says that the worker is stopping."""

    def refuse(self, error: CpuserveError) -> None:
        """Answer it with an error."""


@runtime_checkable
class LeavableCall(Protocol):
    """A request whose transport tells whether its client is still there."""

    def has_left(self) -> bool:
        """Whether the client has gone, so that nobody waits for the answer."""
