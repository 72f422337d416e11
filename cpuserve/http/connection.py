"""One HTTP/1.1 connection on a non-blocking socket: reads whole requests, sends answers."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from http import HTTPStatus

from cpuserve.errors import BodyTooLarge, CpuserveError
from cpuserve.http.chunked_body import ChunkedBody
from cpuserve.http.head import Head, HeadReader
from cpuserve.http.mailbox import WaitingRequest
from cpuserve.protocols.access import client_of
from cpuserve.protocols.body_budget import BodyBudget, BodyShare, SizedBody
from cpuserve.protocols.call import Call, Reply, error_reply
from cpuserve.protocols.client_limits import ClientLimits
from cpuserve.protocols.urgency import Urgency, urgency_of

__all__ = ["Connection"]

_CHUNK = 1 << 16
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_DRAIN_S = 2.0  # how long a refused client may go on sending
_DRAIN_BYTES = 256 << 20  # and how much
_TURN_BYTES = 1 << 20  # that are read of one connection before others have their turn
_ANSWER_BYTES_PER_S = 1 << 16  # what a client has to take of a large answer
_NO_CONTENT = 204
_REASONS = {**{status.value: status.phrase for status in HTTPStatus}, 499: "Client Closed Request"}
_Check = Callable[[Call], None] | None
_Peer = tuple[str, int] | None


class Connection:
    """The state of one client's connection.

    Args:
        sock: of the client.
        peer: its address and port; None for a local client.
        limits: what the client may take.
        check: raises an error when a request may not go on; called with its call once its head is whole,
            before anything is kept of its body. None lets all of them in.
        budget: the memory for bodies.

    Attributes:
        sock: the non-blocking socket.
        peer: address and port for the log.
        number: its file descriptor; kept after the socket is closed.
        call: the latest request whose head was read; its body is there once it is whole.
        deadline: when it is closed unless something happens, on the clock of `time.monotonic`; None while the
            server works on its request.
        open: False once the socket is closed.
    """

    def __init__(
        self, sock: socket.socket, peer: _Peer, limits: ClientLimits, check: _Check, budget: BodyBudget
    ) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.number = sock.fileno()
        self.open = True
        self.deadline: float | None = time.monotonic() + limits.request_timeout_s
        self._limits = limits
        self._check = check
        self._share = BodyShare(budget)
        self._take_memory = self._share.take
        self._address = peer
        self.peer = f"{peer[0]}:{peer[1]}" if peer else "a local client"
        self._host = peer[0] if peer else ""
        self._client = client_of(self._host)
        self._heads = HeadReader()
        self._head: Head  # of the latest request
        self.call = Call("-", "-", address=self._host)  # until a request comes
        self._has_head = False  # of the request that is read or answered
        self._chunks: ChunkedBody | None = None
        self._sized: SizedBody | None = None
        self._scratch = b""  # what came and waits for its turn: the next request, or small chunks
        self._body: bytearray | memoryview | None = None
        self._complete = False
        self._started = False
        self._draining = False
        self._drained = 0
        self._keep = True
        self._out: bytes | memoryview = b""

    @classmethod
    def taken_over(
        cls, request: WaitingRequest, limits: ClientLimits, check: _Check, budget: BodyBudget
    ) -> Connection:
        """Continue a connection of another worker, which has read and checked its request."""
        self = cls(request.sock, request.peer, limits, check, budget)
        call = self._begin_call(request.head)
        call.address, call.client = request.address, request.client
        call.answer_headers = request.answer_headers
        call.arrived_ns, call.due = request.arrived_ns, request.due
        if request.has_body:
            self._body = call.data = memoryview(request.body)
        self._scratch = request.behind
        self._complete = self._started = True
        self.deadline = None
        return self

    def waiting_request(self) -> WaitingRequest:
        """The whole request, with all that another worker needs to answer it."""
        call = self.call
        return WaitingRequest(
            *(self.sock, self._address, self._head, call.address, call.client, call.answer_headers),
            *(call.data, self._body is not None, self._scratch, call.arrived_ns or 0, call.due),
        )

    @property
    def has_body(self) -> bool:
        """Whether the whole request has a body."""
        return self._body is not None

    @property
    def whole(self) -> bool:
        """Whether a request is here that is not answered yet."""
        return self._complete

    @property
    def wants_write(self) -> bool:
        """Whether an answer is still to be sent, or bytes that came wait here for their turn."""
        return bool(self._out or self._scratch)

    def receive(self) -> bool:
        """Read what has come, without waiting.

        Returns:
            Whether a request is whole; `call` then has it.

        Raises:
            CpuserveError: the request is refused; answer it with `refuse`.
        """
        if self._scratch and not self._complete:
            data, self._scratch = self._scratch, b""
            self._feed(data)
        left = _TURN_BYTES
        while self.open and not self._complete and not self._scratch and left > 0:
            try:
                count = self._read()
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                self.close()
                break
            if not count:
                break
            left -= count
        whole = self.open and self._complete
        if whole:
            self.deadline = None
            call = self.call
            call.arrived_ns = time.perf_counter_ns()
            if self._body is not None:
                call.data = self._body
        return whole

    def _read(self) -> int:
        """Read once; the bytes that came, or 0 when the socket had no more than these."""
        if self._draining:
            return self._drain()
        if self._sized is not None:
            with self._sized.room(_TURN_BYTES) as room:
                count = self.sock.recv_into(room)
            if not count:
                self.close()
                return 0
            self._sized.filled(count)
            if self._sized.whole:
                self._body, self._complete = self._sized.data, True
            return count
        data = self.sock.recv(_CHUNK)
        if not data:
            self.close()
            return 0
        self._feed(data)
        return len(data) if len(data) == _CHUNK else 0

    def _drain(self) -> int:
        """Discard what a refused client still sends, within limits."""
        count = len(self.sock.recv(_CHUNK))
        self._drained += count
        if not count or self._drained > _DRAIN_BYTES:
            self.close()
        return count

    def _feed(self, data: bytes) -> None:
        if not self._started:
            self._started = True
            self.deadline = time.monotonic() + self._limits.request_timeout_s
        if self._chunks is not None:
            self._take_chunks(self._chunks, memoryview(data))
            return
        found = self._heads.feed(data)
        if found is not None:
            self._begin_body(*found)

    def _begin_body(self, head: Head, rest: memoryview) -> None:
        """Check the request, then take the part of its body that came with its head."""
        call = self._begin_call(head)
        length = head.length
        came = len(rest)
        most = self._limits.max_body_bytes
        here = not head.chunked and length <= came and length <= most
        if here:  # whole: also a refusal keeps the connection
            self._body = rest[:length] if length else None
            if length < came:
                self._scratch = bytes(rest[length:])
            self._complete = True
        if self._check is not None:
            self._check(call)
        if length > most:
            raise BodyTooLarge(
                f"the body has {length} bytes, the limit is {most} bytes (setting max_body_bytes)"
            )
        if here:
            return
        if head.waits and not came:
            self._send(_CONTINUE)
        if head.chunked:
            self._chunks = ChunkedBody(self._share, most)
            self._take_chunks(self._chunks, rest)
        else:
            self._sized = SizedBody(length, rest, self._share)

    def _begin_call(self, head: Head) -> Call:
        self._head, self._has_head = head, True
        self.call = call = Call(
            *(head.method, head.path, head.query, head.headers, b"", self._limits),
            *(self._host, self._client, self._take_memory),
        )
        return call

    def _take_chunks(self, chunks: ChunkedBody, data: memoryview) -> None:
        behind = chunks.feed(data)
        self._scratch = bytes(chunks.unread)
        if behind is not None:
            self._body, self._scratch, self._complete = chunks.body, bytes(behind), True

    @property
    def target(self) -> str:
        """Path and query of the latest request, as sent; "-" where its head could not be read."""
        return self._head.target if self._has_head else "-"

    def urgency(self, default_timeout_s: float) -> Urgency:
        """Deadline and priority of the request that is whole; its time runs from now."""
        urgency = urgency_of(self.call, default_timeout_s)
        self.call.due = time.monotonic() + urgency.timeout_s
        return urgency

    def answer(self, reply: Reply, *, last: bool = False) -> None:
        """Send an answer, as much as the socket takes; the rest goes with `flush`.

        Args:
            reply: its body is left out in the answer to HEAD.
            last: close the connection afterwards.
        """
        self._keep = self._head.keep and not last
        self._send_reply(reply)

    def _send_reply(self, reply: Reply) -> None:
        status, body = reply.status, reply.body
        head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nDate: {_http_date()}\r\n"
        for name, value in reply.headers:
            head += f"{name}: {value}\r\n"
        has_head = self._has_head
        if has_head and self.call.answer_headers:
            for name, value in self.call.answer_headers:
                head += f"{name}: {value}\r\n"
        if status != _NO_CONTENT:
            head += f"Content-Length: {len(body)}\r\n"
        head += "Connection: keep-alive\r\n\r\n" if self._keep else "Connection: close\r\n\r\n"
        if self.call.method == "HEAD" if has_head else self._heads.asks_head:
            body = b""
        self._next_request()
        self._send(head.encode("latin-1") + body)

    def refuse(self, error: CpuserveError) -> None:
        """Answer a request with an error; one that was not read to its end also ends the connection.

        What the client still sends is read and discarded for a while: closing at once would reset the
        connection, and the client might never see the answer.
        """
        self._draining = not self._complete
        if self._draining:
            self._scratch = b""
        self._keep = self._complete and self._head.keep
        self._send_reply(error_reply(error))

    def _next_request(self) -> None:
        if self._has_head:
            self.call.drop_body()
        self._body = self._chunks = self._sized = None
        self._has_head = False
        if self._share.held:
            self._share.release()
        self._complete = self._started = False

    def _send(self, data: bytes) -> None:
        if self._out:
            self._out = bytes(self._out) + data
            return
        try:
            sent = self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.close()
            return
        if sent < len(data):  # so long in all: it is not counted anew for each byte that the client takes
            self._out = memoryview(data)[sent:]
            patience = self._limits.request_timeout_s + len(self._out) / _ANSWER_BYTES_PER_S
            self.deadline = time.monotonic() + patience

    def flush(self) -> None:
        """Send more of an answer that did not fit into the socket."""
        out = self._out
        if not out:
            return
        try:
            sent = self.sock.send(out)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        self._out = memoryview(out)[sent:] if sent < len(out) else b""

    def settle(self) -> bool:
        """After an answer: keep the connection or end it; in the middle of a request, nothing.

        Returns:
            Whether bytes that came wait here for their turn.
        """
        if not self.open or self._out:
            return False
        if self._started:
            return bool(self._scratch)
        if self._keep:
            self.deadline = time.monotonic() + self._limits.keep_alive_s
            return bool(self._scratch)
        if self._draining:
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError:
                self.close()
            self.deadline = time.monotonic() + _DRAIN_S
        else:
            self.close()
        return False

    def has_left(self) -> bool:
        """Whether the client has ended the connection: nothing waits to be read but its end."""
        if self._scratch:
            return False  # of its next request
        try:
            return not self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            return True

    def expire(self, now: float) -> None:
        """End the connection if its deadline has passed; its reader sees the end and closes it."""
        deadline = self.deadline
        if deadline is not None and deadline <= now and self.open:
            self.abandon()

    def abandon(self) -> None:
        """Shut the socket down, from another thread than the one that reads it."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the peer was faster

    @property
    def idle(self) -> bool:
        """Whether it is between two requests."""
        return not self._started and self.deadline is not None and not self._out

    def close(self) -> None:
        """Close the socket; a second call does nothing."""
        if self.open:
            self.open = False
            self._share.release()
            self.sock.close()


_date: tuple[int, str] = (0, "")


def _http_date() -> str:
    """The Date header, made once a second."""
    global _date  # noqa: PLW0603
    now = int(time.time())
    if _date[0] != now:
        _date = (now, time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now)))
    return _date[1]
