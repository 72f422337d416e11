"""A server whose HTTP/2 frames a test writes itself, for what real servers do seldom."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hpack import Encoder

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, PADDED, PRIORITY = 1, 4, 8, 32
HEADER_TABLE_SIZE, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 1, 3, 4, 5
_PREFACE = 24

Answer = Callable[[int, int, int, bytes], bytes]
"""Takes kind, flags, stream and payload of a frame, and gives the bytes to send."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def settings(**given: int) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", globals()[name], given[name]) for name in given))


def word(number: int) -> bytes:
    return struct.pack(">I", number)


def block(*fields: tuple[str, str], huffman: bool = True) -> bytes:
    """Fields as a server writes them that may keep no table."""
    encoder = Encoder()
    encoder.header_table_size = 0
    return encoder.encode(list(fields), huffman=huffman)


def answered(stream: int, status: int = 0) -> bytes:
    head = frame(HEADERS, END_HEADERS, stream, block((":status", "200")))
    end = block(("grpc-status", str(status)))
    return head + frame(DATA, 0, stream, bytes(5)) + frame(HEADERS, END_HEADERS | END_STREAM, stream, end)


def _serve(connection: socket.socket, first: bytes, answer: Answer, piece: int, grants: bool) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection, connection.makefile("rb") as heard:
        try:
            connection.sendall(first)
            heard.read(_PREFACE)
            while head := heard.read(9):
                length, flags, stream = struct.unpack(">IBI", head)
                reply = answer(length & 0xFF, flags, stream, heard.read(length >> 8))
                if grants and length & 0xFF == DATA:
                    reply = frame(WINDOW_UPDATE, 0, 0, word(length >> 8)) + reply
                for at in range(0, len(reply), piece):
                    connection.sendall(reply[at : at + piece])
                    time.sleep(0.001 if len(reply) > piece else 0)
        except (OSError, struct.error):  # the client has gone
            pass


@contextmanager
def scripted(
    answer: Callable[[], Answer],
    first: bytes = frame(SETTINGS, 0, 0),
    piece: int = 1 << 20,
    grants: bool = True,
) -> Iterator[str]:
    """Serve with a script of its own for each connection, in pieces of so many bytes; the address.

    The window of the connection stays as it is unless ``grants`` forbids it.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(
                    target=_serve, args=(connection, first, answer(), piece, grants), daemon=True
                ).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
