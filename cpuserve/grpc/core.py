"""Calls of gRPC and their events, as grpcio's core has them beneath its layers of Python.

grpcio's own servers are made of the same parts, for which grpcio promises nothing to others. They are used
in this module alone. For a small call they cost a quarter of what asyncio's layer does (docs/protocols.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import grpc
from grpc._cython import cygrpc

from cpuserve.grpc.tls import Tls
from cpuserve.protocols.call import Refusal

__all__ = ["CoreCall", "CoreServer"]

_NO_DEADLINE = 1e15  # a time that stands for none is far beyond
_EXPECTED = 16  # calls that the core may take before their events are
_OK = cygrpc.StatusCode.ok

_Event = Any
_Metadata = Iterable[tuple[str, str]]


def _receive_close() -> Any:
    """Of each call another: what has become of the call is written into it."""
    return cygrpc.ReceiveCloseOnServerOperation(0)


def _nothing(_event: _Event) -> None:
    pass


def _not_followed(_gone: bool) -> None:
    pass


class CoreCall:
    """A call whose metadata are here.

    Its functions may be called by any thread; what they are given is called by the thread of the server.

    Args:
        event: by which it came.

    Attributes:
        method: as HTTP/2 has it.
        metadata: names and values.
        peer: gRPC's name of the client's address.
    """

    __slots__ = ("_began", "_call", "_closed", "_deadline", "_watched", "metadata", "method", "peer")

    def __init__(self, event: _Event) -> None:
        self._call = event.call
        self._deadline = event.call_details.deadline
        self._began = False  # with an answer
        self._watched = False  # its end is told of
        self._closed: Callable[[bool], None] = _not_followed
        self.method: str = event.call_details.method.decode("ascii", "replace")
        self.metadata: tuple[tuple[str, str | bytes], ...] = event.invocation_metadata
        self.peer: str = event.call.peer().decode("ascii", "replace")

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the deadline of its client; None where it has none."""
        return None if self._deadline > _NO_DEADLINE else max(0.0, self._deadline - time.time())

    def when_closed(self, then: Callable[[bool], None]) -> None:
        """Have a function called once it is over: with whether its client, or a lack of time, ended it.

        Until it is answered, or `watch` was called, nothing is told: each event costs a turn of the thread.
        """
        self._closed = then

    def watch(self) -> None:
        """Tell at once when it is over; the thread of the server calls this."""
        if not self._watched:
            self._watched = True
            self._call.start_server_batch((_receive_close(),), self._is_over)

    def read(self, then: Callable[[bytes | None], None]) -> None:
        """Have a function called with the next message; with None where there is none, or it was refused."""

        def came(event: _Event) -> None:
            then(event.batch_operations[0].message())

        self._call.start_server_batch((cygrpc.ReceiveMessageOperation(0),), came)

    def write(self, message: bytes, then: Callable[[], None]) -> None:
        """Send one of several answers, and have a function called once there is room for another."""

        def sent(_event: _Event) -> None:
            then()

        head = () if self._began else (cygrpc.SendInitialMetadataOperation(None, 0),)
        self._began = True
        self._call.start_server_batch((*head, cygrpc.SendMessageOperation(message, 0)), sent)

    def finish(self, message: bytes | None, trailing: _Metadata = ()) -> None:
        """End it well.

        Args:
            message: its answer; None after those that were sent by `write`.
            trailing: metadata behind it.
        """
        status = cygrpc.SendStatusFromServerOperation(tuple(trailing), _OK, b"", 0)
        if message is None:
            self._end(status)
        else:
            self._end(cygrpc.SendMessageOperation(message, 0), status)

    def cancel(self) -> None:
        """Cut it off."""
        self._call.cancel(cygrpc.StatusCode.resource_exhausted, "the answer was not read in time")

    def refuse(self, refusal: Refusal, trailing: _Metadata = ()) -> None:
        """End it with a code and a text."""
        code = getattr(cygrpc.StatusCode, refusal.grpc_code.lower())
        text = refusal.text.encode()
        status = cygrpc.SendStatusFromServerOperation(tuple(trailing), code, text, 0)
        self._end(status)

    def _end(self, *operations: Any) -> None:
        if not self._began:
            self._began = True
            operations = (cygrpc.SendInitialMetadataOperation(None, 0), *operations)
        if self._watched:
            self._call.start_server_batch(operations, _nothing)
        else:
            self._watched = True
            self._call.start_server_batch((_receive_close(), *operations), self._is_over)

    def _is_over(self, event: _Event) -> None:
        then, self._closed = self._closed, _not_followed  # which has this call
        then(event.batch_operations[0].cancelled())


class CoreServer:
    """A server whose events one thread takes, by `take_event`.

    Args:
        options: gRPC's, see grpc/impl/channel_arg_names.h.
        begin: is called with every call.
    """

    def __init__(self, options: Iterable[tuple[str, int]], begin: Callable[[CoreCall], None]) -> None:
        self._begin = begin
        self._queue = cygrpc.CompletionQueue()
        self._server = cygrpc.Server(tuple(options), False)
        self._server.register_completion_queue(self._queue)
        self._stopping = False
        self.ended = False

    def listen(self, address: str, tls: Tls | None) -> None:
        """Begin to take connections.

        Raises:
            OSError: not at this address.
        """
        credentials = []
        if tls is not None:
            pairs, asks = [(tls.key, tls.certificate)], tls.client_ca is not None
            credentials = [grpc.ssl_server_credentials(pairs, tls.client_ca, asks)._credentials]
        if not self._server.add_http2_port(address.encode(), *credentials):
            raise OSError(f"gRPC cannot listen at {address}")
        self._server.start()
        for _ in range(_EXPECTED):
            self._expect_call()

    def take_event(self, wait_s: float) -> bool:
        """Wait for an event and do what is to be done with it.

        Args:
            wait_s: seconds at most; 0 for those that are here.

        Returns:
            Whether there was one.
        """
        # gRPC rounds to milliseconds, so that an end in 0 seconds would be one later
        event = self._queue.poll(time.time() + wait_s if wait_s else 0.0)
        if event.tag is None:
            return False
        event.tag(event)
        return True

    def stop(self) -> None:
        """Take no calls any more, and tell clients; `ended` is true once the last call is over."""
        self._stopping = True
        self._server.shutdown(self._queue, self._stopped)

    def cancel_all(self) -> None:
        """Cut off the calls that are left."""
        self._server.cancel_all_calls()

    def _expect_call(self) -> None:
        self._server.request_call(self._queue, self._queue, self._came)

    def _came(self, event: _Event) -> None:
        if not event.success:
            return  # there will be none: it is stopping
        if not self._stopping:
            self._expect_call()
        self._begin(CoreCall(event))

    def _stopped(self, _event: _Event) -> None:
        self._server.destroy()
        self._queue.shutdown()
        while not self.ended:
            event = self._queue.poll(time.time() + 1)
            if event.tag is not None:
                event.tag(event)
            self.ended = event.completion_type == cygrpc.CompletionType.queue_shutdown
