"""A connection of an HTTP/2 client that asks gRPC calls of one message each, and keeps only their status.

It costs far less CPU than gRPC's own client, since it reads no message and keeps no state for headers.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import grpc

from benchmarks.header_blocks import EMPTY_TABLE, RequestFields, read_statuses, timeout_field

__all__ = ["Call", "Connection"]

_FRAME = struct.Struct(">IBI")  # length and kind in one word, flags, stream
_SETTING = struct.Struct(">HI")
_WORD = struct.Struct(">I")
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_WINDOW_UPDATE, _CONTINUATION = 8, 9
_SIZES = {_RST_STREAM: 4, _PING: 8, _WINDOW_UPDATE: 4}  # bytes of the frames that have one size
_ACK = _END_STREAM = 0x1
_END_HEADERS, _PADDED, _PRIORITY = 0x4, 0x8, 0x20
_PLAIN = _END_HEADERS | _PADDED | _PRIORITY  # of these a whole header block has the first alone
_HEADER_TABLE_SIZE, _ENABLE_PUSH, _MAX_CONCURRENT_STREAMS = 1, 2, 3
_INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 4, 5
_REFUSED, _CANCEL = 7, 8  # codes of RST_STREAM
_DEFAULT_WINDOW, _DEFAULT_FRAME = 0xFFFF, 1 << 14  # bytes, until settings say otherwise
_DEFAULT_TABLE = 4096  # bytes of a server that says nothing else; one with less gets no fields to keep
_MOST = (1 << 31) - 1  # bytes of a window, and the highest stream
_BLOCK_MOST = 1 << 20  # bytes of a header block in several frames
_AHEAD = 1 << 18  # bytes: so much is framed before the socket takes it
_CONNECT_S = 5.0

_STATUS_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
_RESET_NAMES = {_REFUSED: "UNAVAILABLE", _CANCEL: "CANCELLED", 11: "RESOURCE_EXHAUSTED"}
_RESET_NAMES[12] = "PERMISSION_DENIED"
_HTTP_NAMES = {
    **{200: "INTERNAL", 400: "INTERNAL", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED"},
    **{404: "UNIMPLEMENTED", 429: "UNAVAILABLE", 502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "UNAVAILABLE"},
}
"""What an answer without a status of gRPC counts as, by its status of HTTP."""

_BUFFER = memoryview(bytearray(1 << 18))  # one for all connections: a thread reads them in turn


@dataclass(slots=True, eq=False)
class Call:
    """A request and what becomes of it."""

    channel: int
    since: float  # where the latency counts from
    deadline: float
    timeout_ms: int  # as the server is told
    body: memoryview
    code: str = ""  # the name of its status, once it has ended
    ended: float = 0.0
    again: bool = False  # whether it was asked anew, since a server did not take it
    stream: int = 0
    window: int = 0
    sent: int = 0  # bytes of the body
    http_status: int = 0


class _Block(NamedTuple):
    """A header block of which frames are still to come."""

    stream: int
    flags: int
    part: bytes


def _preface() -> bytes:
    settings = ((_HEADER_TABLE_SIZE, 0), (_ENABLE_PUSH, 0), (_INITIAL_WINDOW_SIZE, _MOST))
    written = b"".join(_SETTING.pack(*setting) for setting in settings)
    window = _frame(_WINDOW_UPDATE, 0, 0, _WORD.pack(_MOST - _DEFAULT_WINDOW))
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, written) + window


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _FRAME.pack(len(payload) << 8 | kind, flags, stream) + payload


class Connection:
    """A connection whose socket does not block: whoever has it polls.

    Attributes:
        sock: to be polled.
        ready: whether the server's settings came; calls wait for them.
        usable: whether the server takes further calls.
        lost: why the connection has ended, or empty.
        malformed: whether it was lost since the server sent what HTTP/2 does not know.
        blocked: whether the socket has to become writable.

    Args:
        address: of the server.
        fields: the header fields of all requests.
    """

    def __init__(self, address: tuple[str, int], fields: RequestFields) -> None:
        self.sock = socket.create_connection(address, _CONNECT_S)
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ready, self.usable, self.lost, self.malformed, self.blocked = False, True, "", False, False
        self._fields = fields
        self._begin, self._later = fields.first, fields.later  # of the next block, and of those after it
        if fields.table_bytes > _DEFAULT_TABLE:
            self._use_no_table()
        self._calls: dict[int, Call] = {}  # by stream
        self._pending: deque[Call] = deque()
        self._uploads: deque[Call] = deque()  # of these a part is still to be framed
        self._ended: list[Call] = []
        self._next_stream = 1
        self._limit = 0  # concurrent streams: none until the settings came
        self._window = self._initial_window = _DEFAULT_WINDOW
        self._frame_bytes = _DEFAULT_FRAME
        self._taken = 0  # bytes of the window that the server was not given back
        self._block: _Block | None = None
        self._rest = b""  # the beginning of a frame
        self._skip = 0  # bytes of a DATA frame that are still to come
        self._out: list[bytes | memoryview] = [_preface()]
        self._framed = 0  # bytes of DATA among these
        self._sending: bytes | memoryview = b""
        self.flush()

    @property
    def finished(self) -> bool:
        """Whether no call is open and none can come."""
        return not self.usable and not self._calls

    def ask(self, call: Call) -> None:
        """Send a request, or a part of it: the rest follows when there is room."""
        self._pending.append(call)
        self._start()
        self.flush()

    def cancel(self, call: Call) -> None:
        """Give up a call that has its code already, if it is one of this connection."""
        if self._calls.get(call.stream) is call:
            del self._calls[call.stream]
            self._reset(call)
            self._start()
            self.flush()

    def receive(self) -> list[Call]:
        """Read what came.

        Returns:
            The calls that ended. One without a code was not taken by the server: it may be asked elsewhere.
        """
        try:
            count = self.sock.recv_into(_BUFFER)
            if not count:
                raise ConnectionError("the server closed the connection")
            self._parse(b"".join((self._rest, _BUFFER[:count])) if self._rest else _BUFFER[:count])
            if self._pending:
                self._start()
            if self._out or self._uploads:
                self.flush()
        except BlockingIOError:
            pass
        except (OSError, ValueError) as error:
            self.malformed = isinstance(error, ValueError)
            self._lose(str(error))
        ended, self._ended = self._ended, []
        return ended

    def flush(self) -> None:
        """Send what the socket takes."""
        if self._uploads:
            self._upload()
        while self._out or self._sending:
            data = self._sending
            if not data:
                data = b"".join(self._out)
                self._out.clear()
                self._framed = 0
            try:
                sent = self.sock.send(data)
            except BlockingIOError:
                self._sending, self.blocked = data, True
                return
            except OSError:  # reading tells of it too, and there the calls end
                sent = len(data)
                self._out.clear()
                self._uploads.clear()
            self._sending = memoryview(data)[sent:] if sent < len(data) else b""
            if self._uploads:
                self._upload()
        self.blocked = False

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()

    def _start(self) -> None:
        """Open streams for waiting calls, as many as the server allows."""
        while self._pending and len(self._calls) < self._limit and self.usable:
            call = self._pending.popleft()
            if call.code:  # its deadline passed
                continue
            call.stream, call.window, call.sent = self._next_stream, self._initial_window, 0
            self._next_stream += 2
            self._calls[call.stream] = call
            block = self._begin + timeout_field(call.timeout_ms)
            self._begin = self._later
            self._out.append(_frame(_HEADERS, _END_HEADERS, call.stream, block))
            if not self._frame_body(call):
                self._uploads.append(call)

    def _upload(self) -> None:
        """Frame what the windows have room for; the calls take turns."""
        for _ in range(len(self._uploads)):
            if self._window <= 0 or self._framed >= _AHEAD:
                return
            call = self._uploads.popleft()
            if not call.code and not self._frame_body(call):
                self._uploads.append(call)

    def _frame_body(self, call: Call) -> bool:
        """Frame a part of a body; whether it was the last."""
        body, size, stream = call.body, len(call.body), call.stream
        while call.sent < size and self._framed < _AHEAD:
            room = min(self._window, call.window, self._frame_bytes, size - call.sent)
            if room <= 0:
                return False
            end = call.sent + room
            self._out.append(_FRAME.pack(room << 8 | _DATA, _END_STREAM if end == size else 0, stream))
            self._out.append(body[call.sent : end])
            call.sent = end
            call.window -= room
            self._window -= room
            self._framed += room
        return call.sent == size

    def _parse(self, data: memoryview | bytes) -> None:
        at, end = self._skip, len(data)
        while end - at >= _FRAME.size:
            word, flags, stream = _FRAME.unpack_from(data, at)
            length, kind, stream = word >> 8, word & 0xFF, stream & _MOST
            if length > _DEFAULT_FRAME or (kind != _SETTINGS and not self.ready):
                raise ValueError("the server does not speak HTTP/2")
            begin, after = at + _FRAME.size, at + _FRAME.size + length
            if kind == _DATA:  # no byte of it is looked at
                self._got_data(flags, stream, length)
            elif after > end:
                break
            elif kind == _HEADERS and flags & _PLAIN == _END_HEADERS:
                self._got_headers(stream, flags, bytes(data[begin:after]))
            else:
                self._got(kind, flags, stream, bytes(data[begin:after]))
            at = after
        self._skip = max(0, at - end)
        self._rest = bytes(data[at:])

    def _got_data(self, flags: int, stream: int, length: int) -> None:
        self._taken += length
        if self._taken > _MOST // 2:
            self._out.append(_frame(_WINDOW_UPDATE, 0, 0, _WORD.pack(self._taken)))
            self._taken = 0
        if flags & _END_STREAM and (call := self._calls.get(stream)) is not None:
            self._end(call, _HTTP_NAMES.get(call.http_status, "UNKNOWN"))  # there was no status

    def _got(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if len(payload) != _SIZES.get(kind, len(payload)):
            raise ValueError(f"the server sent a frame {kind} of {len(payload)} bytes")
        if kind == _HEADERS:
            self._got_block(_Block(stream, flags, _unpadded(flags, payload)))
        elif kind == _CONTINUATION:
            if self._block is None or self._block.stream != stream:
                raise ValueError("the server continued headers that it had not begun")
            begun, flags = self._block, self._block.flags | flags & _END_HEADERS
            self._got_block(_Block(stream, flags, begun.part + payload))
        elif kind == _RST_STREAM:
            self._got_reset(stream, _WORD.unpack(payload)[0])
        elif kind == _SETTINGS and not flags & _ACK:
            self._got_settings(payload)
        elif kind == _PING and not flags & _ACK:
            self._out.append(_frame(_PING, _ACK, 0, payload))
        elif kind == _GOAWAY:
            self._got_goaway(payload)
        elif kind == _WINDOW_UPDATE:
            self._got_window(stream, _WORD.unpack(payload)[0] & _MOST)

    def _got_block(self, block: _Block) -> None:
        if len(block.part) > _BLOCK_MOST:
            raise ValueError("the server sent too long headers")
        self._block = None if block.flags & _END_HEADERS else block
        if self._block is None:
            self._got_headers(block.stream, block.flags, block.part)

    def _got_headers(self, stream: int, flags: int, block: bytes) -> None:
        call = self._calls.get(stream)
        if call is None:
            return
        http, status = read_statuses(block)
        if http is not None:
            call.http_status = http
        if flags & _END_STREAM and status is not None:
            self._end(call, _STATUS_NAMES.get(status, "UNKNOWN"))
        elif flags & _END_STREAM:
            self._end(call, _HTTP_NAMES.get(call.http_status, "UNKNOWN"))

    def _got_reset(self, stream: int, code: int) -> None:
        call = self._calls.get(stream)
        if call is None:
            return
        self._drop(call)
        call.sent = len(call.body)  # so it is not reset from here too
        self._end(call, "" if code == _REFUSED and not call.again else _RESET_NAMES.get(code, "INTERNAL"))

    def _got_settings(self, payload: bytes) -> None:
        if len(payload) % _SETTING.size:
            raise ValueError("the server sent malformed settings")
        if not self.ready:
            self.ready, self._limit = True, _MOST
        for name, value in _SETTING.iter_unpack(payload):
            if name == _MAX_CONCURRENT_STREAMS:
                self._limit = value
            elif name == _HEADER_TABLE_SIZE and value < _DEFAULT_TABLE:
                self._use_no_table()
            elif name == _MAX_FRAME_SIZE:
                self._frame_bytes = min(value, _AHEAD)  # grpcio allows 16 MiB: they would be copied
            elif name == _INITIAL_WINDOW_SIZE:
                for call in self._calls.values():
                    call.window += value - self._initial_window
                self._initial_window = value
        self._out.append(_frame(_SETTINGS, _ACK, 0, b""))

    def _use_no_table(self) -> None:
        self._begin, self._later = EMPTY_TABLE + self._fields.alone, self._fields.alone

    def _got_window(self, stream: int, more: int) -> None:
        if not stream:
            self._window += more
        elif (call := self._calls.get(stream)) is not None:
            call.window += more

    def _got_goaway(self, payload: bytes) -> None:
        """End the calls that the server will not take; the others it answers yet."""
        if len(payload) < 2 * _WORD.size:
            raise ValueError("the server sent a malformed GOAWAY")
        last = _WORD.unpack_from(payload)[0] & _MOST
        self.usable = False
        refused = [call for stream, call in self._calls.items() if stream > last]
        for call in refused:
            del self._calls[call.stream]
        self._refuse([*refused, *self._pending])

    def _refuse(self, calls: list[Call]) -> None:
        """End calls that never reached a server, and those that were asked twice for good."""
        self._pending.clear()
        for call in calls:
            self._drop(call)
            if not call.code:
                call.code = "UNAVAILABLE" if call.again else ""
                self._ended.append(call)

    def _end(self, call: Call, code: str) -> None:
        del self._calls[call.stream]
        call.code = code
        if call.sent < len(call.body):
            self._reset(call)
        self._ended.append(call)

    def _drop(self, call: Call) -> None:
        if call in self._uploads:
            self._uploads.remove(call)

    def _reset(self, call: Call) -> None:
        self._drop(call)
        self._out.append(_frame(_RST_STREAM, 0, call.stream, _WORD.pack(_CANCEL)))

    def _lose(self, why: str) -> None:
        self.usable, self.lost = False, why
        for call in self._calls.values():
            call.code = "UNAVAILABLE"
            self._ended.append(call)
        self._calls.clear()
        self._uploads.clear()
        self._refuse(list(self._pending))


def _unpadded(flags: int, payload: bytes) -> bytes:
    """The header block in a HEADERS frame."""
    begin = 5 if flags & _PRIORITY else 0
    if not flags & _PADDED:
        return payload[begin:]
    if not payload or payload[0] + 1 + begin > len(payload):
        raise ValueError("the server padded headers beyond their end")
    return payload[1 + begin : len(payload) - payload[0]]
