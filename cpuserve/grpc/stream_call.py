"""A call whose messages and answers are streams: `StreamCall`."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial

from cpuserve.errors import BodyTooLarge, CpuserveError, Unauthorized
from cpuserve.grpc.core import CoreCall
from cpuserve.grpc.grpc_call import GrpcCall
from cpuserve.grpc.method import Method
from cpuserve.grpc.open_call import STOPPING, CallWorker, OpenCall
from cpuserve.grpc.open_streams import OpenStreams
from cpuserve.protocols.call import Call, Refusal, Reply

__all__ = ["StreamCall"]

_WINDOW = 16  # requests that are read ahead of their answers
_WELL = Refusal("OK", "")
_CROWDED = Refusal("UNAVAILABLE", "this stream was idle longest of too many: open it again")


class _StreamRequest:
    """One message of the stream.

    Attributes:
        message: as it was sent; empty once there is an answer, or nobody waits for one.
        answer: what is sent for it, or how the stream ends; None until that is known.
        waiting: waits for the worker's threads; None where it does not.
    """

    __slots__ = ("answer", "message", "waiting")

    def __init__(self, message: bytes) -> None:
        self.message = message
        self.answer: bytes | Refusal | None = None
        self.waiting: GrpcCall | None = None


class StreamCall(OpenCall):
    """Answers the messages of a stream in their order, several at a time.

    Args:
        core, method, worker: see `OpenCall`.
        wrap: makes an answer of a message and its reply, see `Method`.
        streams: limits how many there are.
    """

    def __init__(
        self,
        core: CoreCall,
        method: Method,
        worker: CallWorker,
        wrap: Callable[[bytes, Reply], bytes | Refusal],
        streams: OpenStreams,
    ) -> None:
        super().__init__(core, method, worker)
        self._wrap = wrap
        self._streams = streams
        self._requests: deque[_StreamRequest] = deque()
        self._first: Call | None = None  # of the first message, which may go on
        self._reading = False
        self._lock = threading.Lock()  # of those below, which threads with an answer use
        self._sending = self._over = False
        self._end: Refusal | None = None  # once no more messages are taken

    @property
    def answering(self) -> bool:
        """See `OpenCall`."""
        return self._sending

    def start(self) -> None:
        """Begin to read, unless it has no right key, or there are too many streams."""
        self._core.watch()
        call = self._new_call()
        try:
            self._check_first(call)
            self._streams.add(self._crowd_out, call.client)
        except CpuserveError as error:
            reply = self._refusal(call, error)
            self._transport.count(reply)
            self._end_after_answers(Refusal(error.grpc_code, error.public_text))
        else:
            self._streams.idle(self._crowd_out)
            self._read()

    def _check_first(self, call: Call) -> None:
        """Check the first call before a byte of it is read.

        Raises:
            CpuserveError: none of them may go on.
        """
        try:
            self._check(call)
        except (Unauthorized, BodyTooLarge):
            raise
        except CpuserveError:
            return  # it is checked again once it is here: the next ones may go on
        self._first = call

    def closed(self, gone: bool) -> None:
        """It is over: what it still asks for is not computed.

        Args:
            gone: whether its client, or a lack of time, ended it.
        """
        del gone
        self._over = True
        self._slow.end(self)
        self._streams.remove(self._crowd_out)
        for request in self._requests:
            if request.waiting is not None and request.waiting.abandon():
                self._transport.count_answer("CANCELLED")
            request.message = b""

    def stop(self) -> None:
        """Take no more messages: the worker is stopping."""
        self._end_after_answers(STOPPING)

    def _crowd_out(self) -> None:
        self._end_after_answers(_CROWDED)

    def _end_after_answers(self, end: Refusal) -> None:
        if self._end is None:
            self._end = end
            self._held.send(self._send_next)

    def _read(self) -> None:
        self._reading = True
        self._core.read(self._came)

    def _came(self, message: bytes | None) -> None:
        self._reading = False
        if message is None:
            self._end_after_answers(_WELL)
        elif self._end is None:
            self._streams.at_work(self._crowd_out)
            request = _StreamRequest(message)
            self._requests.append(request)
            self._ask(request)
            self._read_on()

    def _read_on(self) -> None:
        if not self._reading and self._end is None and len(self._requests) < _WINDOW:
            self._read()

    def _ask(self, request: _StreamRequest) -> None:
        first, self._first = self._first, None
        call, send = first or self._new_call(), partial(self._answered, request)
        try:
            if first is None:
                self._check(call)
        except CpuserveError as error:
            send(self._refusal(call, error))
        else:
            request.waiting = self._submit(call, request.message, send)

    def _answered(self, request: _StreamRequest, reply: Reply) -> None:
        """Send an answer once it is its turn; any thread may call this."""
        self._transport.count(reply)
        answer = self._wrap(request.message, reply)
        request.message = b""
        request.answer = answer
        self._held.send(self._send_next)

    def _send_next(self) -> None:
        with self._lock:
            first = self._requests[0] if self._requests else None
            next_one = self._end if first is None else first.answer
            if self._sending or self._over or next_one is None:
                return
            self._sending = True
            self._over = isinstance(next_one, Refusal)
        if not isinstance(next_one, Refusal):
            self._slow.begin(self, len(next_one))
            self._core.write(next_one, self._sent)
        elif next_one is _WELL:
            self._core.finish(None)
        else:
            self._core.refuse(next_one)

    def _sent(self) -> None:
        self._slow.end(self)
        with self._lock:
            self._requests.popleft()
            self._sending = False
        if not self._requests:
            self._streams.idle(self._crowd_out)
        self._read_on()
        self._held.send(self._send_next)
