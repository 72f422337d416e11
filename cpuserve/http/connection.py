"""One HTTP/1.1 connection that is never waited for: bytes in as they come, a whole request, an answer out."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cpuserve.errors import BodyTooLarge, CpuserveError
from cpuserve.http.body_budget import BodyBudget, BodyShare, SizedBody
from cpuserve.http.chunks import Chunks
from cpuserve.http.client_limits import ClientLimits
from cpuserve.http.head import Head, HeadReader
from cpuserve.http.mailbox import WaitingRequest
from cpuserve.protocols.access import client_of
from cpuserve.protocols.call import Body, Reply, error_reply, http_date
from cpuserve.protocols.urgency import Urgency, urgency_of

__all__ = ["Connection"]

_CHUNK = 1 << 16
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_DRAIN_S = 2.0  # how long a refused client may go on sending
_DRAIN_BYTES = 256 << 20  # and how much
_TURN_BYTES = 1 << 20  # that are read of one connection before others have their turn
_ANSWER_BYTES_PER_S = 1 << 16  # what a client has to take of a large answer
_Check = Callable[[dict[str, Any]], None] | None
_Environ = Mapping[str, Any]


class Connection:
    """The state of one client.

    Args:
        sock: of the client.
        peer: its address and port; None for a local client.
        base: what every environment has.
        limits: what the client may take.
        check: raises an error when a request may not go on; called with its environment once its head is
            whole, before anything is kept of its body. None lets all of them in.
        budget: what the memory of bodies is taken from.

    Attributes:
        sock: the non-blocking socket.
        peer: who it is, for the log.
        number: its file descriptor; kept after the socket is closed.
        arrived_ns: when the latest request was whole, on the clock of `time.perf_counter_ns`.
        deadline: when it is closed unless something happens, on the clock of `time.monotonic`; None while the
            server is at work on its request.
        open: False once the socket is closed.
    """

    def __init__(
        self,
        sock: socket.socket,
        peer: Any,
        base: _Environ,
        limits: ClientLimits,
        check: _Check,
        budget: BodyBudget,
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
        self.peer = f"{peer[0]}:{peer[1]}" if peer else "a local client"
        address, port = (peer[0], str(peer[1])) if peer else ("", "")
        more = {"REMOTE_ADDR": address, "REMOTE_PORT": port, "cpuserve.body_share": self._share}
        self._client = client_of(address)
        self._heads = HeadReader({**base, **more})
        self._head: Head  # of the latest request
        self._environ: dict[str, Any] = {}  # of the request that is read or answered
        self._chunks: Chunks | None = None
        self._sized: SizedBody | None = None
        self._scratch = b""  # what came and waits for its turn: the next request, or small chunks
        self._body: bytearray | memoryview | None = None
        self._complete = False
        self._started = False
        self._draining = False
        self._drained = 0
        self._due = math.inf
        self.arrived_ns = 0
        self._keep = True
        self._out: bytes | memoryview = b""

    @classmethod
    def taken_over(
        cls,
        request: WaitingRequest,
        base: _Environ,
        limits: ClientLimits,
        check: _Check,
        budget: BodyBudget,
    ) -> Connection:
        """Go on with a connection of another worker, whose request is whole and was checked there."""
        address, port = request.environ["REMOTE_ADDR"], request.environ["REMOTE_PORT"]
        self = cls(request.sock, (address, port) if address else None, base, limits, check, budget)
        self._head = Head({**self._heads.base, **request.environ})
        self._environ = self._head.environ
        self._body = memoryview(request.body) if request.has_body else None
        self._scratch, self.arrived_ns, self._due = request.behind, request.arrived_ns, request.due
        self._complete = self._started = True
        self.deadline = None
        return self

    def waiting_request(self) -> WaitingRequest:
        """The request that is whole and all that another worker needs to go on with it."""
        environ = {name: self._environ[name] for name in self._environ.keys() - self._heads.base.keys()}
        more = {name: self._environ[name] for name in ("REMOTE_ADDR", "REMOTE_PORT")}
        body = b"" if self._body is None else self._body
        return WaitingRequest(
            *(self.sock, {**environ, **more}, body, self._body is not None),
            *(self._scratch, self.arrived_ns, self._due),
        )

    @property
    def has_body(self) -> bool:
        """Whether the request that is whole came with a body."""
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
        """Read what is there, without waiting.

        Returns:
            Whether a request is whole; `environ` then has it.

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
            self.arrived_ns = time.perf_counter_ns()
            self._due = math.inf
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
        """Throw away what a refused client still sends, within limits."""
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
        """Ask whether the request may go on, then take what came of its body with its head."""
        self._head, self._environ = head, head.environ
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
            self._check(head.environ)
        if length > most:
            raise BodyTooLarge(
                f"the body has {length} bytes, the limit is {most} bytes (setting max_body_bytes)"
            )
        if here:
            return
        if head.waits and not came:
            self._send(_CONTINUE)
        if head.chunked:
            self._chunks = Chunks(self._share, most)
            self._take_chunks(self._chunks, rest)
        else:
            self._sized = SizedBody(length, rest, self._share)

    def _take_chunks(self, chunks: Chunks, data: memoryview) -> None:
        behind = chunks.feed(data)
        self._scratch = bytes(chunks.unread)
        if behind is not None:
            self._environ["CONTENT_LENGTH"] = str(len(chunks.body))
            self._body, self._scratch, self._complete = chunks.body, bytes(behind), True

    @property
    def target(self) -> str:
        """Path and query of the latest request, as sent."""
        return self._head.target

    @property
    def path(self) -> str:
        """Path of the latest request, decoded as routes see it."""
        return str(self._head.environ["PATH_INFO"])

    @property
    def client(self) -> str:
        """Who the request is counted against: the right API key it brings, else the address it comes from."""
        environ = self._head.environ
        return str(environ["cpuserve.client"]) if "cpuserve.client" in environ else self._client

    def terms(self, default_timeout_s: float) -> Urgency:
        """Deadline and priority of the request that is whole; its time runs from now."""
        body = self._body if self._body is not None else b""
        terms = urgency_of(self._head.environ, body, default_timeout_s)
        self._due = time.monotonic() + terms.timeout_s
        return terms

    def environ(self) -> dict[str, Any]:
        """The WSGI environment of the request that is whole."""
        head = self._head
        environ = head.environ
        environ["wsgi.input"] = Body(self._body if self._body is not None else b"")
        environ["cpuserve.arrived_ns"] = self.arrived_ns
        environ["cpuserve.due"] = self._due
        self._keep = head.keep
        return environ

    def answer(
        self, status: str, headers: Iterable[tuple[str, str]], body: bytes, *, last: bool = False
    ) -> None:
        """Send an answer, as much as the socket takes; the rest goes with `flush`.

        Args:
            status: "200 OK".
            headers: with Content-Length, unless the status has no body.
            body: left out in the answer to HEAD.
            last: close the connection afterwards.
        """
        self._keep = self._keep and not last
        head = f"HTTP/1.1 {status}\r\nDate: {http_date()}\r\n"
        for name, value in headers:
            head += f"{name}: {value}\r\n"
        head += "Connection: keep-alive\r\n\r\n" if self._keep else "Connection: close\r\n\r\n"
        environ = self._environ
        if environ["REQUEST_METHOD"] == "HEAD" if environ else self._heads.asks_head:
            body = b""
        self._next_request()
        self._send(head.encode("latin-1") + body)

    def refuse(self, error: CpuserveError) -> None:
        """Answer a request with an error; one that was not read to its end also ends the connection.

        What the client still sends is read and thrown away for a while: closing at once would reset the
        connection, and the client might never see the answer.
        """
        reply: Reply = error_reply(error)
        reply.headers += self._environ.get("cpuserve.cors", ())
        self._draining = not self._complete
        if self._draining:
            self._scratch = b""
        self._keep = self._complete and self._head.keep

        def respond(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
            self.answer(status, headers, reply.body)

        reply.send(respond)

    def _next_request(self) -> None:
        self._body = self._chunks = self._sized = None
        self._environ = {}
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

    def expire(self, now: float) -> None:
        """End the connection if its deadline has passed; its reader sees the end and closes it."""
        deadline = self.deadline
        if deadline is not None and deadline <= now and self.open:
            self.abandon()

    def abandon(self) -> None:
        """Shut the socket from another thread than the one that reads it."""
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
