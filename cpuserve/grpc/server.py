"""The gRPC server of a worker: its thread reads messages and sends answers, others make them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

import grpc
from grpc import aio

from cpuserve.errors import CpuserveError, DeadlineExceeded, RequestError
from cpuserve.grpc.grpc_call import GrpcCall, MessageCall, address_of
from cpuserve.grpc.method import Method
from cpuserve.grpc.tls import Tls
from cpuserve.machine.process_controls import block_signals, show_thread_name
from cpuserve.protocols.access import client_of
from cpuserve.protocols.body_budget import BodyBudget, BodyShare
from cpuserve.protocols.call import Call, Refusal, Reply, error_reply
from cpuserve.protocols.client_limits import ClientLimits
from cpuserve.serving.stages import GRPC_THREAD

__all__ = ["GrpcServer", "GrpcTransport"]

_log = logging.getLogger("cpuserve.grpc")
_STREAM_WINDOW = 16  # requests of one stream that are read ahead of its answers
_STREAMS_A_CHANNEL = 256
_START_S = 10.0
_PAUSE_S = 0.2
_LINGER_S = 1.0  # how long a server that stops waits for such a pause between calls
_TOLD_S = 0.05
_COUNT_EVERY_S = 1.0
_CHANNEL_USED_S = 60.0
_STOPPING = Refusal("UNAVAILABLE", "this worker is stopping: open the stream again")
_PING_EVERY_MS = 60_000  # of the server, to find clients that are gone
_PING_TIMEOUT_MS = 20_000
_LEAST_BETWEEN_PINGS_MS = 10_000  # of a client; gRPC itself allows them every 5 minutes
_NO_HEADERS = frozenset(("grpc-timeout", "user-agent", "te", "grpc-accept-encoding", "accept-encoding"))


_Wrap = Callable[[bytes, Reply], bytes | Refusal]
_Answers = asyncio.Queue[asyncio.Task[bytes | Refusal] | None]


class GrpcTransport:
    """What the gRPC server needs of its worker.

    Args:
        submit: puts a call into the worker's queue.
        count_refused: counts a request that was refused before that.
        check: raises an error when a request may not go on; None lets all of them in.
        limits: what a client may take.
        budget: the memory for bodies.
        max_connections: most channels.
        tell_channels: called with the number of channels that had a call in the last minute.
        count_answer: called with the code of each answer; CANCELLED where the client had gone.
    """

    def __init__(
        self,
        submit: Callable[[GrpcCall], None],
        count_refused: Callable[[CpuserveError], None],
        check: Callable[[Call], None] | None,
        limits: ClientLimits,
        budget: BodyBudget,
        max_connections: int,
        tell_channels: Callable[[int], None] = lambda _count: None,
        count_answer: Callable[[str], None] = lambda _code: None,
    ) -> None:
        self.submit = submit
        self.count_refused = count_refused
        self.check = check
        self.limits = limits
        self.budget = budget
        self.max_connections = max_connections
        self.tell_channels = tell_channels
        self.count_answer = count_answer

    def count(self, reply: Reply) -> None:
        """Count an answer by its code."""
        self.count_answer(reply.refusal.grpc_code if reply.refusal is not None else "OK")


class GrpcServer:
    """Serves gRPC from a thread of its own.

    Args:
        address: to listen on; all workers share it by ``SO_REUSEPORT``.
        methods: that are served.
        transport: the worker's queue and limits.
        tls: encrypts it; None for plain connections.
    """

    def __init__(
        self, address: str, methods: Iterable[Method], transport: GrpcTransport, tls: Tls | None = None
    ) -> None:
        self._address = address
        self._tls = tls
        self._calls = _Calls(methods, transport)
        self._transport = transport
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._timeout_s: float | None = None  # once it is to stop
        self._started = threading.Event()  # or failed

    @property
    def running(self) -> bool:
        """Whether its thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Listen, unless it was told to stop before; returns when connections are taken."""
        with self._lock:
            if self._timeout_s is not None or self._thread is not None:
                return
            self._thread = threading.Thread(target=self._run, name=GRPC_THREAD, daemon=True)
            self._thread.start()
        self._started.wait(_START_S)

    def stop(self, timeout_s: float) -> None:
        """Take no new requests from now on; return at once, while those that are here are answered.

        Args:
            timeout_s: seconds until requests are cut off.
        """
        with self._lock:
            if self._timeout_s is None:
                self._timeout_s = timeout_s
            if self._loop is not None and self._stop is not None and self.running:
                self._loop.call_soon_threadsafe(self._stop.set)

    def _run(self) -> None:
        show_thread_name()
        block_signals()
        try:
            asyncio.run(self._serve())
        except Exception:
            _log.exception("gRPC is not served any more by this worker")
            raise
        finally:
            self._started.set()

    async def _serve(self) -> None:
        with self._lock:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            if self._timeout_s is not None:
                return
        server = aio.server(
            options=_options(self._transport), maximum_concurrent_rpcs=self._transport.max_connections
        )
        server.add_generic_rpc_handlers((self._calls,))
        self._add_port(server)
        await server.start()
        self._started.set()
        _log.info("gRPC at %s%s", self._address, "" if self._tls is None else ", with TLS")
        counting = asyncio.create_task(self._calls.count_channels())
        await self._stop.wait()
        counting.cancel()
        await self._calls.end(server, self._timeout_s)

    def _add_port(self, server: Any) -> None:
        tls = self._tls
        if tls is None:
            server.add_insecure_port(self._address)
            return
        pairs = [(tls.key, tls.certificate)]
        asks = tls.client_ca is not None
        server.add_secure_port(self._address, grpc.ssl_server_credentials(pairs, tls.client_ca, asks))


def _options(transport: GrpcTransport) -> list[tuple[str, int]]:
    """Options of gRPC, see grpc/impl/channel_arg_names.h."""
    limits = transport.limits
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", limits.max_body_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", _STREAMS_A_CHANNEL),
        ("grpc.max_allowed_incoming_connections", transport.max_connections),
        ("grpc.max_connection_idle_ms", max(1, round(limits.keep_alive_s * 1000))),
        ("grpc.keepalive_time_ms", _PING_EVERY_MS),
        ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _LEAST_BETWEEN_PINGS_MS),
        ("grpc.server_handshake_timeout_ms", max(1, round(limits.request_timeout_s * 1000))),
    ]


class _Calls(grpc.GenericRpcHandler):  # type: ignore[misc]  # gRPC has no type hints
    """Finds the method of a call and answers it."""

    def __init__(self, methods: Iterable[Method], transport: GrpcTransport) -> None:
        self._transport = transport
        self._handlers = {method.name: self._handler(method) for method in methods}
        self._latest = 0.0  # call, on the clock of the loop
        self._channels: dict[str, float] = {}  # the latest call of each
        self._told: asyncio.Event | None = None  # once it ends: set when channels were told
        self._readers: set[asyncio.Task[None]] = set()  # of streams

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a call; None for a method that there is not."""
        return self._handlers.get(handler_call_details.method)

    async def count_channels(self) -> None:
        """Count the channels with a call in the last minute, again and again; health checks are none."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_COUNT_EVERY_S)
            since = loop.time() - _CHANNEL_USED_S
            self._channels = {peer: latest for peer, latest in self._channels.items() if latest > since}
            self._transport.tell_channels(len(self._channels))

    async def end(self, server: Any, timeout_s: float | None) -> None:
        """Shut gRPC down so that no call is lost.

        gRPC cancels calls that come after its shutdown, until their clients know of it. So answers are held
        back until the channels were told: who waits for an answer sends nothing, and reads first that its
        channel is closing.

        Args:
            server: gRPC's.
            timeout_s: seconds until calls are cut off.
        """
        loop = asyncio.get_running_loop()
        self._told = asyncio.Event()
        end = loop.time() + _LINGER_S
        while loop.time() < min(end, self._latest + _PAUSE_S):
            await asyncio.sleep(_PAUSE_S / 10)
        ending = asyncio.create_task(server.stop(timeout_s))
        await asyncio.sleep(_TOLD_S)
        self._told.set()
        for reader in self._readers:
            reader.cancel()
        await ending

    def _handler(self, method: Method) -> Any:
        # as streams also those with one message: their handler is called before the message is read
        wrap = method.wrap
        if wrap is not None:

            async def answer_stream(_messages: Any, context: Any) -> None:
                await self._stream(method, wrap, context)

            return grpc.stream_stream_rpc_method_handler(answer_stream)

        async def answer_one(_messages: Any, context: Any) -> bytes:
            return await self._unary(method, context)

        return grpc.stream_unary_rpc_method_handler(answer_one)

    async def _unary(self, method: Method, context: Any) -> bytes:
        """Answer a method of one message."""
        try:
            call = self._begin(method, context)
            message = await self._read(context)
        except CpuserveError as error:
            self._transport.count_refused(error)
            reply = error_reply(error)
        else:
            reply = await self._answer(method, call, message, context.time_remaining())
            del message, call
        self._transport.count(reply)
        if self._told is not None:
            await self._told.wait()
        trailing = tuple((name.lower(), value) for name, value in reply.headers if name != "Content-Type")
        if reply.refusal is not None:
            await _refuse(context, reply.refusal, trailing)
        context.set_trailing_metadata(trailing)
        return reply.body

    def _begin(self, method: Method, context: Any) -> Call:
        """The call of a request whose metadata are here; raises why it may not go on."""
        peer = context.peer()
        self._latest = asyncio.get_running_loop().time()
        if not method.at_once:  # probes open a channel each
            self._channels[peer] = self._latest
        transport, address = self._transport, address_of(peer)
        headers = {
            name: value
            for name, value in context.invocation_metadata()
            if isinstance(value, str) and name not in _NO_HEADERS
        }
        call = MessageCall(
            *(method.verb, method.path, "", headers, b"", transport.limits, address, client_of(address)),
        )
        if transport.check is not None:
            transport.check(call)
        return call

    async def _read(self, context: Any) -> bytes:
        """The next message; raises when it is too long in coming."""
        patience_s = self._transport.limits.request_timeout_s
        try:
            async with asyncio.timeout(patience_s):
                message = await context.read()
        except TimeoutError:
            raise DeadlineExceeded(
                f"the message was not here after {patience_s:g} s (setting request_timeout_s)"
            ) from None
        if message is aio.EOF:
            raise RequestError("there is no message")  # where gRPC has refused one, nobody hears this
        found: bytes = message
        return found

    async def _answer(self, method: Method, call: Call, message: bytes, remaining_s: float | None) -> Reply:
        """Let the worker's threads answer a message."""
        transport = self._transport
        share = BodyShare(transport.budget)
        try:
            share.take(len(message))
            call.take_memory = share.take
            task = method.read(message)
        except CpuserveError as error:
            share.release()
            transport.count_refused(error)
            return error_reply(error)
        try:
            if method.at_once:
                return task.handler(call)
            waiting = GrpcCall(call, task, remaining_s, asyncio.get_running_loop())
            transport.submit(waiting)
            try:
                return await waiting.reply
            except asyncio.CancelledError:
                waiting.abandon()
                transport.count_answer("CANCELLED")
                raise
        finally:
            share.release()

    async def _stream(self, method: Method, wrap: _Wrap, context: Any) -> None:
        """Answer the messages of a stream in their order, several at a time."""
        answers: _Answers = asyncio.Queue(_STREAM_WINDOW)
        reader = asyncio.create_task(self._read_stream(method, wrap, context, answers))
        self._readers.add(reader)
        try:
            while (answering := await answers.get()) is not None:
                answer = await answering
                if self._told is not None:
                    await self._told.wait()
                if isinstance(answer, Refusal):
                    await _refuse(context, answer, ())
                await context.write(answer)
            if self._told is not None:
                await _refuse(context, _STOPPING, ())
        finally:
            self._readers.discard(reader)
            reader.cancel()
            while not answers.empty():
                left = answers.get_nowait()
                if left is not None:
                    left.cancel()

    async def _read_stream(self, method: Method, wrap: _Wrap, context: Any, answers: _Answers) -> None:
        try:
            while (message := await context.read()) is not aio.EOF:
                answering = asyncio.create_task(self._answer_in_stream(method, wrap, context, message))
                await answers.put(answering)
                del message
        finally:
            await answers.put(None)

    async def _answer_in_stream(
        self, method: Method, wrap: _Wrap, context: Any, message: bytes
    ) -> bytes | Refusal:
        try:
            call = self._begin(method, context)
        except CpuserveError as error:
            self._transport.count_refused(error)
            reply = error_reply(error)
        else:
            reply = await self._answer(method, call, message, context.time_remaining())
        self._transport.count(reply)
        return wrap(message, reply)


async def _refuse(context: Any, refusal: Refusal, trailing: tuple[tuple[str, str], ...]) -> None:
    """End a call with a code; raises what ends its handler."""
    await context.abort(getattr(grpc.StatusCode, refusal.grpc_code), refusal.text, trailing)
