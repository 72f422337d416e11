"""What calls of one message and streams have in common: `OpenCall`."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

from cpuserve.errors import BodyTooLarge, CpuserveError
from cpuserve.grpc.brief_calls import BriefCalls
from cpuserve.grpc.core import CoreCall
from cpuserve.grpc.grpc_call import GrpcCall, MessageCall, address_of
from cpuserve.grpc.held_answers import HeldAnswers
from cpuserve.grpc.method import Method
from cpuserve.grpc.slow_readers import SlowReaders
from cpuserve.grpc.transport import METADATA_BYTES, MOST_METADATA, GrpcTransport
from cpuserve.protocols.access import client_of
from cpuserve.protocols.body_budget import BodyShare
from cpuserve.protocols.call import Call, Refusal, Reply, error_reply

__all__ = ["FAILED", "STOPPING", "CallWorker", "OpenCall"]

_log = logging.getLogger("cpuserve.grpc")
_NO_HEADERS = frozenset(("grpc-timeout", "user-agent", "te", "grpc-accept-encoding", "accept-encoding"))
_METADATA = 64  # sets of metadata that are kept
_COUNTED_BYTES = 16 << 10  # smaller messages are no more than calls, of which there is a limit
FAILED = Refusal("INTERNAL", "internal error; the server's log says more")
"""The answer after a fault of the code."""
STOPPING = Refusal("UNAVAILABLE", "this worker is stopping: open the stream again")
"""The end of calls that would go on."""


class CallWorker(NamedTuple):
    """What all calls of a worker share.

    Attributes:
        transport: the worker's queue and limits.
        held: sends the answers.
        slow: gives them their time.
        brief: keeps those that the thread of the server runs.
    """

    transport: GrpcTransport
    held: HeldAnswers
    slow: SlowReaders
    brief: BriefCalls


class OpenCall(ABC):
    """A call that is not over. The thread of the server calls its functions, unless they say otherwise.

    Args:
        core: the call as gRPC has it.
        method: that was called.
        worker: what all calls of the worker share.
    """

    def __init__(self, core: CoreCall, method: Method, worker: CallWorker) -> None:
        self._core = core
        self._method = method
        self._transport, self._held, self._slow, self._brief = worker

    @property
    @abstractmethod
    def answering(self) -> bool:
        """Whether an answer is under way that its client has not taken yet."""

    def cancel(self) -> None:
        """Cut it off."""
        self._core.cancel()

    @abstractmethod
    def start(self) -> None:
        """Check it and begin to read."""

    @abstractmethod
    def closed(self, gone: bool) -> None:
        """It is over.

        Args:
            gone: whether its client, or a lack of time, ended it.
        """

    def _new_call(self) -> Call:
        """What a message of it becomes."""
        method, address, limits = self._method, address_of(self._core.peer), self._transport.limits
        return MessageCall(method.verb, method.path, "", {}, b"", limits, address, client_of(address))

    def _check(self, call: Call) -> None:
        """Give a call its headers.

        Raises:
            CpuserveError: it may not go on.
        """
        transport = self._transport
        call.headers = _headers(self._core.metadata)
        if transport.check is not None:
            transport.check(call)
        if not self._method.small:
            transport.expect_room(call, self._core.remaining_s)

    def _refusal(self, call: Call, error: CpuserveError) -> Reply:
        self._transport.note_refused(call, call.path, error)
        return error_reply(error)

    def _submit(self, call: Call, message: bytes, send: Callable[[Reply], None]) -> GrpcCall | None:
        """Let the worker's threads answer a message.

        Args:
            call: of the message.
            message: as it was sent.
            send: is called with the answer, by any thread, or before this returns.

        Returns:
            What waits for them; None where they have nothing to do.
        """
        transport = self._transport
        share = BodyShare(transport.budget)

        def answer(reply: Reply) -> None:
            if call.alone and waiting.thread_s:
                transport.brief_paths.learn(call.path, waiting.thread_s)
            send(reply)

        try:
            if len(message) > _COUNTED_BYTES:
                share.take(len(message))
            call.take_memory = share.take
            task = self._method.read(message)
            if not self._method.at_once:
                waiting = GrpcCall(call, task, self._core.remaining_s, share, answer)
                if not self._brief.take(waiting, len(message), task.shared_bytes):
                    if transport.must_wait():
                        self._core.watch()
                    transport.submit(waiting)
                return waiting
            reply = task.handler(call)
        except CpuserveError as error:
            reply = self._refusal(call, error)
        except Exception:  # noqa: BLE001  # of whatever is called
            _log.exception("Error in a call of %s", self._method.name)
            reply = Reply(500, b"", [], FAILED)
        share.release()
        send(reply)
        return None


@lru_cache(maxsize=_METADATA)
def _headers(metadata: tuple[tuple[str, str | bytes], ...]) -> Mapping[str, str]:
    """The headers that stand for metadata: clients send the same with each call.

    Raises:
        BodyTooLarge: there are more than there may be.
    """
    # gRPC itself keeps to the limit of bytes only with clients that have said that they know it
    size = sum(len(name) + len(value) for name, value in metadata)
    if len(metadata) > MOST_METADATA or size > METADATA_BYTES:
        raise BodyTooLarge(f"a call may have {MOST_METADATA} metadata of {METADATA_BYTES} bytes in all")
    return {name: value for name, value in metadata if isinstance(value, str) and name not in _NO_HEADERS}
