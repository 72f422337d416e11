"""A call that came over gRPC and waits in the worker's queue for its answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar
from urllib.parse import unquote

from cpuserve.errors import CpuserveError
from cpuserve.grpc.method import Task
from cpuserve.protocols.body_budget import BodyShare
from cpuserve.protocols.call import Call, Reply, error_reply
from cpuserve.protocols.urgency import Urgency, urgency_of
from cpuserve.serving.request import GrpcRequest

__all__ = ["GrpcCall", "MessageCall", "address_of"]

_CLIENT_LEFT = 499
_PEERS = 1024  # whose addresses are kept
_Left = TypeVar("_Left")


class MessageCall(Call):
    """A call that came as a message of gRPC: statistics tell it apart."""

    __slots__ = ()
    request_class = GrpcRequest


class GrpcCall:
    """A whole request; any thread may answer it.

    Args:
        call: the request.
        task: what its message asks for.
        remaining_s: seconds until the deadline of the client (``grpc-timeout``); None where it has none.
        share: the memory of its message.
        send: sends its answer, unless the client has gone.

    Attributes:
        call: the request.
        timed: whether the clock of its thread is read, which takes two system calls.
        thread_s: seconds that its thread computed for it, without those it waited; 0 where that is not known.
    """

    __slots__ = (
        *("_done", "_handlers", "_infers", "_open", "_priority", "_remaining_s", "_running"),
        *("_share", "_timeout_s", "call", "thread_s", "timed"),
    )

    def __init__(
        self,
        call: Call,
        task: Task,
        remaining_s: float | None,
        share: BodyShare,
        send: Callable[[Reply], None],
    ) -> None:
        call.path, call.handler = task.path, self._run
        call.arrived_ns = time.perf_counter_ns()
        self.call = call
        self._infers = task.infers
        self._priority = task.priority
        self._timeout_s = task.timeout_s
        self._remaining_s = remaining_s
        self._share = share
        self._running = False
        self._done: Callable[[], None] | None = None
        self.timed = True
        self.thread_s = 0.0
        # The client may go at any time. Of two threads, that which takes something out of a list does what is
        # to be done with it: run the handler, or let its memory go; send the answer, or count that none was.
        self._handlers = [task.handler]
        self._open = [send]

    @property
    def has_body(self) -> bool:
        """Whether it counts among the requests that infer."""
        return self._infers

    @property
    def target(self) -> str:
        """The path of the HTTP call that asks for the same."""
        return self.call.path

    def urgency(self, default_timeout_s: float) -> Urgency:
        """Its deadline and priority; its time runs from now."""
        urgency = urgency_of(self.call, default_timeout_s)
        urgency.timeout_s = min(urgency.timeout_s, self._timeout_s)
        if self._remaining_s is not None:
            urgency.timeout_s = min(urgency.timeout_s, self._remaining_s)
        if self._priority is not None:
            urgency.priority = self._priority
        self.call.due = time.monotonic() + urgency.timeout_s
        return urgency

    def when_done(self, then: Callable[[], None]) -> None:
        """Have a function called once no thread has anything to do with it any more."""
        self._done = then

    def answer(self, reply: Reply, *, last: bool = False) -> None:
        """Send its answer; the channel of a stopping worker is closed by gRPC itself."""
        del last
        done, self._done = self._done, None
        if done is not None:
            done()
        if self._running or _take(self._handlers) is not None:
            self._let_go()
        send = _take(self._open)
        if send is not None:
            send(reply)

    def abandon(self) -> bool:
        """The client has gone: nothing is computed for it any more, and its message is let go.

        Returns:
            Whether it was not answered yet.
        """
        unanswered = _take(self._open) is not None
        if _take(self._handlers) is not None:
            self._let_go()
        return unanswered

    def refuse(self, error: CpuserveError) -> None:
        """Answer it with an error."""
        self.answer(error_reply(error))

    def _run(self, call: Call) -> Reply:
        handler = _take(self._handlers)
        if handler is None:
            return _nobody_waits(call)
        self._running = True
        if not self.timed:
            return handler(call)
        began_ns = time.thread_time_ns()
        reply = handler(call)
        self.thread_s = (time.thread_time_ns() - began_ns) / 1e9
        return reply

    def _let_go(self) -> None:
        self.call.handler = _nobody_waits  # not this object, which has the call
        self.call.drop_body()
        self._share.release()


def _take(left: list[_Left]) -> _Left | None:
    try:
        return left.pop()
    except IndexError:
        return None


def _nobody_waits(_call: Call) -> Reply:
    return Reply(_CLIENT_LEFT, b"", [])


@lru_cache(maxsize=_PEERS)
def address_of(peer: str) -> str:
    """The client's address in gRPC's name of a peer, such as ``ipv4:127.0.0.1:1``; empty for a local one."""
    family, _, rest = peer.partition(":")
    if family not in ("ipv4", "ipv6"):
        return ""
    host = unquote(rest).rpartition(":")[0].strip("[]")
    return host.partition("%")[0]
