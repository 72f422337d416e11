"""A call that came over gRPC and waits in the worker's queue for its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import lru_cache, partial
from urllib.parse import unquote

from cpuserve.errors import CpuserveError
from cpuserve.grpc.method import Task
from cpuserve.protocols.call import Call, Reply, error_reply
from cpuserve.protocols.urgency import Urgency, urgency_of
from cpuserve.serving.request import GrpcRequest

__all__ = ["GrpcCall", "MessageCall", "address_of"]

_CLIENT_LEFT = 499
_PEERS = 1024  # whose addresses are kept


class MessageCall(Call):
    """A call that came as a message of gRPC: statistics tell it apart."""

    __slots__ = ()
    request_class = GrpcRequest


class GrpcCall:
    """A whole request; any thread may answer it.

    Args:
        call: the request; its path and handler are set.
        task: what its message asks for.
        remaining_s: seconds until the deadline of the client (``grpc-timeout``); None where it has none.
        post: has a function called in the loop of gRPC.

    Attributes:
        call: the request.
        reply: is there once the request is answered.
    """

    def __init__(
        self,
        call: Call,
        task: Task,
        remaining_s: float | None,
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        call.path, call.handler = task.path, task.handler
        call.arrived_ns = time.perf_counter_ns()
        self.call = call
        self.reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._infers = task.infers
        self._priority = task.priority
        self._timeout_s = task.timeout_s
        self._remaining_s = remaining_s
        self._post = post

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

    def answer(self, reply: Reply, *, last: bool = False) -> None:
        """Send its answer; the channel of a stopping worker is closed by gRPC itself."""
        del last
        self.call.drop_body()
        self._post(partial(self._settle, reply))

    def abandon(self) -> None:
        """The client has gone: nothing is computed for it any more, and its message is let go."""
        self.call.handler = _nobody_waits
        self.call.drop_body()

    def refuse(self, error: CpuserveError) -> None:
        """Answer it with an error."""
        self.answer(error_reply(error))

    def _settle(self, reply: Reply) -> None:
        if not self.reply.done():  # the client may have gone
            self.reply.set_result(reply)


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
