"""HTTP clients in one thread: closed loop (so many connections) and open loop (so many arrivals a second)."""

from __future__ import annotations

import argparse
import json
import random
import resource
import select
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

__all__ = ["closed_loop", "open_loop"]

_CHUNK = 1 << 16


class _Client:
    """One connection and the request it waits for."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.sock = socket.create_connection(address)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent_at = 0.0
        self._answer = b""

    def send(self, request: bytes) -> None:
        self._answer = b""
        self.sent_at = time.perf_counter()
        self.sock.sendall(request)

    def receive(self) -> int | None:
        """Status of the answer once it is whole, else None; ConnectionError when the server hung up."""
        part = self.sock.recv(_CHUNK)
        if not part:
            raise ConnectionError("the server closed the connection")
        self._answer += part
        head, separator, body = self._answer.partition(b"\r\n\r\n")
        if not separator:
            return None
        length = int(head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
        return int(head[9:12]) if len(body) >= length else None


def closed_loop(
    host: str, port: int, path: str, bodies: Sequence[bytes], *, connections: int, seconds: float
) -> dict[str, object]:
    """Load a server.

    Args:
        host: its address.
        port: its port.
        path: where the bodies are posted to.
        bodies: sent in turn.
        connections: how many are open, each with one request under way.
        seconds: how long.

    Returns:
        ``requests``, ``seconds``, ``statuses``, ``latencies_ms`` ascending, ``client_cpu_s``.
    """
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: image/jpeg\r\nContent-Length: "
    requests = [head.encode() + b"%d\r\n\r\n" % len(body) + body for body in bodies]
    clients = {}
    poll = select.epoll()
    for _ in range(connections):
        client = _Client((host, port))
        clients[client.sock.fileno()] = client
        poll.register(client.sock, select.EPOLLIN)
    statuses: Counter[str] = Counter()
    latencies: list[float] = []
    turn = 0
    began, cpu = time.perf_counter(), _cpu_s()
    for client in clients.values():
        client.send(requests[turn % len(requests)])
        turn += 1
    end = began + seconds
    now = began
    while now < end:
        for number, _ in poll.poll(max(0.0, end - now)):
            client = clients[number]
            status = client.receive()
            if status is None:
                continue
            now = time.perf_counter()
            latencies.append(1000 * (now - client.sent_at))
            statuses[str(status)] += 1
            client.send(requests[turn % len(requests)])
            turn += 1
        now = time.perf_counter()
    spent = now - began
    for client in clients.values():
        client.sock.close()
    return {
        "requests": len(latencies),
        "seconds": spent,
        "statuses": dict(statuses),
        "latencies_ms": sorted(latencies),
        "client_cpu_s": _cpu_s() - cpu,
    }


def open_loop(
    host: str,
    port: int,
    path: str,
    bodies: Sequence[bytes],
    *,
    rate: float,
    seconds: float,
    timeout_ms: int,
    seed: int = 0,
) -> dict[str, object]:
    """Send requests when they are due, whether or not earlier ones are answered (Poisson arrivals).

    A request that finds no idle connection opens one. Latency counts from the time a request was due.

    Args:
        host: its address.
        port: its port.
        path: where the bodies are posted to.
        bodies: sent in turn.
        rate: arrivals a second.
        seconds: how long.
        timeout_ms: the deadline each request names (``X-Request-Timeout-Ms``).
        seed: of the arrivals.

    Returns:
        ``offered_per_s``, ``seconds``, ``statuses``, ``latencies_ms`` of those answered 200, ascending,
        ``in_time`` (200 within the deadline), ``client_cpu_s``.
    """
    dice = random.Random(seed)  # noqa: S311  # arrivals, no secrets
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nX-Request-Timeout-Ms: {timeout_ms}\r\nContent-Length: "
    requests = [head.encode() + b"%d\r\n\r\n" % len(body) + body for body in bodies]
    poll = select.epoll()
    busy: dict[int, tuple[_Client, float]] = {}
    idle: list[_Client] = []
    statuses: Counter[str] = Counter()
    latencies: list[float] = []
    offered, began, cpu = 0, time.perf_counter(), _cpu_s()
    due = began
    end = began + seconds
    while True:
        now = time.perf_counter()
        while due <= now and due < end:
            client = idle.pop() if idle else _Client((host, port))
            client.send(requests[offered % len(requests)])
            number = client.sock.fileno()
            busy[number] = (client, due)
            poll.register(number, select.EPOLLIN)
            offered += 1
            due += dice.expovariate(rate)
        if now >= end and (not busy or now > end + 2 * timeout_ms / 1000 + 1):
            break
        wait = max(0.0, min(due, end) - now) if due < end else 0.05
        for number, _ in poll.poll(wait, 256):
            client, was_due = busy[number]
            try:
                status = client.receive()
            except ConnectionError:
                status = 0
            if status is None:
                continue
            poll.unregister(number)
            del busy[number]
            statuses[str(status)] += 1
            if status == 200:
                latencies.append(1000 * (time.perf_counter() - was_due))
            if status:
                idle.append(client)
            else:
                client.sock.close()
    for client in [*idle, *(client for client, _ in busy.values())]:
        client.sock.close()
    if busy:
        statuses["unanswered"] += len(busy)
    return {
        "offered_per_s": offered / seconds,
        "seconds": seconds,
        "statuses": dict(statuses),
        "latencies_ms": sorted(latencies),
        "in_time": sum(latency <= timeout_ms for latency in latencies),
        "client_cpu_s": _cpu_s() - cpu,
    }


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run as a process of its own, so that the client's time is not the server's; prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rate", type=float, help="open loop: arrivals a second")
    parser.add_argument("--timeout-ms", type=int, default=200, help="open loop: deadline of each request")
    given = parser.parse_args()
    bodies = [image.read_bytes() for image in given.images]
    where = ("127.0.0.1", given.port, given.path, bodies)
    if given.rate:
        result = open_loop(*where, rate=given.rate, seconds=given.seconds, timeout_ms=given.timeout_ms)
    else:
        result = closed_loop(*where, connections=given.connections, seconds=given.seconds)
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
