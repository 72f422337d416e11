"""The gRPC server of a worker, run by the threads that answer its requests."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

import grpc
from grpc import aio

from cpuserve.errors import BodyTooLarge, CpuserveError
from cpuserve.grpc.grpc_call import GrpcCall, MessageCall, address_of
from cpuserve.grpc.method import Method
from cpuserve.grpc.open_streams import OpenStreams
from cpuserve.grpc.reading_turns import ReadingTurns
from cpuserve.grpc.shared_loop import SharedLoop, Threads
from cpuserve.grpc.tls import Tls
from cpuserve.grpc.transport import METADATA_BYTES, MOST_METADATA, GrpcTransport, channel_options
from cpuserve.machine.process_controls import block_signals, show_thread_name
from cpuserve.protocols.access import client_of
from cpuserve.protocols.body_budget import BodyShare
from cpuserve.protocols.call import Call, Refusal, Reply, error_reply
from cpuserve.serving.stages import GRPC_THREAD

__all__ = ["GrpcServer"]

_log = logging.getLogger("cpuserve.grpc")
_STREAM_WINDOW = 16  # requests of one stream that are read ahead of its answers
_START_S = 10.0
_PAUSE_S = 0.2
_LINGER_S = 1.0  # how long a server that stops waits for such a pause between calls
_TOLD_S = 0.05
_LEAST_TURNS, _LEAST_STREAMS = 4, 32
_PATIENCE_S, _FEW_PATIENCE_S = 1.0, 0.1  # of messages that come slowly, while others wait
_COUNT_EVERY_S = 1.0
_CHANNEL_USED_S = 60.0
_CROWDED = Refusal("UNAVAILABLE", "this stream was idle longest of too many: open it again")
_STOPPING = Refusal("UNAVAILABLE", "this worker is stopping: open the stream again")
_NO_HEADERS = frozenset(("grpc-timeout", "user-agent", "te", "grpc-accept-encoding", "accept-encoding"))


_Wrap = Callable[[bytes, Reply], bytes | Refusal]
_Answers = asyncio.Queue[asyncio.Task[bytes | Refusal] | Refusal | None]


class GrpcServer:
    """Serves gRPC from the threads that run requests.

    Args:
        address: to listen on; all workers share it by ``SO_REUSEPORT``.
        methods: that are served.
        transport: the worker's queue and limits.
        threads: run it.
        tls: encrypts it; None for plain connections.
    """

    def __init__(
        self,
        address: str,
        methods: Iterable[Method],
        transport: GrpcTransport,
        threads: Threads,
        tls: Tls | None = None,
    ) -> None:
        self._address = address
        self._tls = tls
        self._loop = SharedLoop(threads)
        self._calls = _Calls(methods, transport, self._loop.post)
        self._transport = transport
        self._lock = threading.Lock()
        self._stop: asyncio.Event | None = None
        self._timeout_s: float | None = None  # once it is to stop
        self._started = threading.Event()  # or failed

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._stop is not None and not self._loop.ended

    def start(self) -> None:
        """Listen, unless it was told to stop before; returns when connections are taken."""
        with self._lock:
            if self._timeout_s is not None or self._stop is not None:
                return
            self._stop = asyncio.Event()
        # gRPC's own threads have the name and the signals of the one that begins
        threading.Thread(target=self._begin, args=(self._stop,), name=GRPC_THREAD, daemon=True).start()
        self._started.wait(_START_S)

    def stop(self, timeout_s: float) -> None:
        """Take no new requests from now on; return at once, while those that are here are answered.

        Args:
            timeout_s: seconds until requests are cut off.
        """
        with self._lock:
            if self._timeout_s is None:
                self._timeout_s = timeout_s
            stop = self._stop
        if stop is not None:
            self._loop.post(stop.set)

    def _begin(self, stop: asyncio.Event) -> None:
        show_thread_name()
        block_signals()
        self._loop.start(self._run(stop))

    async def _run(self, stop: asyncio.Event) -> None:
        try:
            await self._serve(stop)
        except Exception:
            _log.exception("gRPC is not served any more by this worker")
            raise
        finally:
            self._started.set()

    async def _serve(self, stop: asyncio.Event) -> None:
        logging.getLogger("grpc._cython.cygrpc").addFilter(_of_the_server)
        server = aio.server(
            options=channel_options(self._transport), maximum_concurrent_rpcs=self._transport.max_connections
        )
        server.add_generic_rpc_handlers((self._calls,))
        self._add_port(server)
        await server.start()
        self._started.set()
        _log.info("gRPC at %s%s", self._address, "" if self._tls is None else ", with TLS")
        counting = asyncio.create_task(self._calls.count_channels())
        await stop.wait()
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


def _of_the_server(record: logging.LogRecord) -> bool:
    """Whether a line of gRPC's log is about more than a call that its client has ended meanwhile."""
    return "ExecuteBatchError raised in core" not in record.getMessage()


class _Calls(grpc.GenericRpcHandler):  # type: ignore[misc]  # gRPC has no type hints
    """Finds the method of a call and answers it."""

    def __init__(
        self,
        methods: Iterable[Method],
        transport: GrpcTransport,
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self._transport = transport
        self._post = post
        self._handlers = {method.name: self._handler(method) for method in methods}
        self._latest = 0.0  # call, on the clock of the loop
        self._channels: dict[str, float] = {}  # the latest call of each
        self._told: asyncio.Event | None = None  # once it ends: set when channels were told
        self._readers: set[asyncio.Task[None]] = set()  # of streams
        most = transport.budget.limit // transport.limits.max_body_bytes
        self._turns = ReadingTurns(max(_LEAST_TURNS, most), _PATIENCE_S)
        self._few = ReadingTurns(_LEAST_TURNS, _FEW_PATIENCE_S)  # of messages that should be small
        self._streams = OpenStreams(max(_LEAST_STREAMS, most))

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
        call = self._call(method, context)
        try:
            self._check(method, call, context)
            turns = self._few if method.small else self._turns
            message = await turns.read(context, call.client, self._transport.limits.request_timeout_s)
        except CpuserveError as error:
            reply = self._refusal(call, error)
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

    def _call(self, method: Method, context: Any) -> Call:
        """The call of a request whose metadata are here."""
        peer = context.peer()
        self._latest = asyncio.get_running_loop().time()
        if not method.at_once:  # probes open a channel each
            self._channels[peer] = self._latest
        address = address_of(peer)
        return MessageCall(
            *(method.verb, method.path, "", {}, b"", self._transport.limits, address, client_of(address)),
        )

    def _check(self, method: Method, call: Call, context: Any) -> None:
        """Give a call its headers; raises why it may not go on."""
        transport, metadata = self._transport, context.invocation_metadata()
        if (
            len(metadata) > MOST_METADATA
            or sum(len(name) + len(value) for name, value in metadata) > METADATA_BYTES
        ):
            raise BodyTooLarge(f"a call may have {MOST_METADATA} metadata of {METADATA_BYTES} bytes in all")
        call.headers = {
            name: value for name, value in metadata if isinstance(value, str) and name not in _NO_HEADERS
        }
        if transport.check is not None:
            transport.check(call)
        if not method.small:
            transport.expect_room(call, context.time_remaining())

    def _refusal(self, call: Call, error: CpuserveError) -> Reply:
        self._transport.note_refused(call, call.path, error)
        return error_reply(error)

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
            return self._refusal(call, error)
        try:
            if method.at_once:
                return task.handler(call)
            waiting = GrpcCall(call, task, remaining_s, self._post)
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

        def end() -> None:
            answers.put_nowait(_CROWDED)

        try:
            self._streams.add(end)
        except CpuserveError as error:
            await _refuse(context, Refusal(error.grpc_code, error.public_text), ())
        reader = asyncio.create_task(self._read_stream(method, wrap, context, answers))
        self._readers.add(reader)
        try:
            while (answering := await self._next_answer(answers, end)) is not None:
                answer = answering if isinstance(answering, Refusal) else await answering
                if self._told is not None:
                    await self._told.wait()
                if isinstance(answer, Refusal):
                    await _refuse(context, answer, ())
                await context.write(answer)
            if self._told is not None:
                await _refuse(context, _STOPPING, ())
        finally:
            self._streams.remove(end)
            self._readers.discard(reader)
            reader.cancel()
            while not answers.empty():
                left = answers.get_nowait()
                if isinstance(left, asyncio.Task):
                    left.cancel()

    async def _next_answer(
        self, answers: _Answers, end: Callable[[], None]
    ) -> asyncio.Task[bytes | Refusal] | Refusal | None:
        if answers.empty():
            self._streams.idle(end)
        found = await answers.get()
        self._streams.at_work(end)
        return found

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
        call = self._call(method, context)
        try:
            self._check(method, call, context)
        except CpuserveError as error:
            reply = self._refusal(call, error)
        else:
            reply = await self._answer(method, call, message, context.time_remaining())
        self._transport.count(reply)
        return wrap(message, reply)


async def _refuse(context: Any, refusal: Refusal, trailing: tuple[tuple[str, str], ...]) -> None:
    """End a call with a code; raises what ends its handler."""
    await context.abort(getattr(grpc.StatusCode, refusal.grpc_code), refusal.text, trailing)
