"""A client that sends what it likes over HTTP/2: half messages, resets, pings, frames that are none."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable, Sequence
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived

__all__ = ["PREFACE", "RawClient", "frame", "grpc_frame"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame of HTTP/2."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def grpc_frame(message: bytes, announced: int | None = None) -> bytes:
    """A message as gRPC frames it; it may announce more than it has."""
    return b"\0" + struct.pack(">I", len(message) if announced is None else announced) + message


class RawClient:
    """One connection, driven by hand.

    Args:
        address: host and port of the server.
        source: address of the client.

    Attributes:
        h2: the state of the connection.
        ended: streams that the server has ended, and its ``grpc-status``; -1 for a reset.
    """

    def __init__(self, address: str, source: str = "127.0.0.1") -> None:
        host, _, port = address.rpartition(":")
        self._address = address
        self.socket = socket.create_connection((host, int(port)), timeout=10, source_address=(source, 0))
        config = H2Configuration(client_side=True, header_encoding="utf-8", validate_outbound_headers=False)
        self.h2 = H2Connection(config)
        self.ended: dict[int, int] = {}
        self.closed = False
        self.h2.initiate_connection()
        self.flush()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def flush(self) -> None:
        """Send what is to be sent, unless the server has ended the connection."""
        try:
            self.socket.sendall(self.h2.data_to_send())
        except OSError:
            self.closed = True

    def begin(self, method: str, more: Sequence[tuple[str, str]] = (), *, end: bool = False) -> int:
        """Open a call; its number."""
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", "POST"), (":scheme", "http"), (":path", method), (":authority", self._address)]
        head += [("te", "trailers"), ("content-type", "application/grpc"), *more]
        self.h2.send_headers(stream, head, end_stream=end)
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False, patience_s: float = 10) -> int:
        """Send data as far as the server has room for it within the time; how many bytes that were."""
        sent, until = 0, time.monotonic() + patience_s
        while sent < len(data) and not self.closed and stream not in self.ended:
            room = min(
                self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(data) - sent
            )
            if room > 0:
                last = end and sent + room == len(data)
                self.h2.send_data(stream, data[sent : sent + room], end_stream=last)
                sent += room
                self.flush()
            elif time.monotonic() < until:
                self.read(0.05)
            else:
                break
        return sent

    def read(self, patience_s: float) -> list[Any]:
        """The events of what comes within a time."""
        self.socket.settimeout(patience_s)
        try:
            data = self.socket.recv(1 << 16)
        except TimeoutError:
            return []
        except ConnectionError:
            data = b""
        if not data:
            self.closed = True
            return []
        events = self.h2.receive_data(data)
        for event in events:
            self._note(event)
        self.flush()
        return events

    def _note(self, event: Any) -> None:
        if isinstance(event, DataReceived):
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, ResponseReceived | TrailersReceived):
            headers: dict[Any, Any] = dict(event.headers)
            status = headers.get("grpc-status")
            if status is not None:
                self.ended[event.stream_id] = int(status)
        elif isinstance(event, StreamReset | StreamEnded):
            self.ended.setdefault(event.stream_id, -1)

    def wait(self, streams: Iterable[int], patience_s: float = 10) -> dict[int, int]:
        """The statuses of these streams, of those that end within the time."""
        wanted, until = set(streams), time.monotonic() + patience_s
        while not wanted <= self.ended.keys() and not self.closed and time.monotonic() < until:
            self.read(0.1)
        return {stream: self.ended[stream] for stream in wanted & self.ended.keys()}
