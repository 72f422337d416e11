"""What a client sends and reads, for tests that serve requests on a socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

WAIT_S = 30


def ask(sock: socket.socket, path: str, body: bytes = b"x", **headers: object) -> None:
    """Send one request: a POST with a body, a GET without; header names are written with underscores."""
    method = "POST" if body else "GET"
    text = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{text}{length}\r\n".encode() + body)


def answer(sock: socket.socket) -> bytes:
    """Head and body of the next answer; what came of it where the connection ends."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(1 << 16)
        if not more:
            return data
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.split(b"\r\n") if line.startswith(b"Content-Length")]
    while len(body) < int(lengths[0].split(b":")[1]):
        more = sock.recv(1 << 16)
        assert more
        body += more
    return head + b"\r\n\r\n" + body


def answer_body(sock: socket.socket) -> bytes:
    """The body of the next answer."""
    return answer(sock).partition(b"\r\n\r\n")[2]


def wait_until(true: Callable[[], object]) -> None:
    """Look until something is true."""
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)
