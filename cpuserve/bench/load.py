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
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["closed_loop", "open_loop"]

_CHUNK = 1 << 16
_LOST = "closed"  # the status of a request whose connection ended before its answer
_DRAIN_S = 30.0
_PICTURES = {"Content-Type": "image/jpeg"}


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
    host: str,
    port: int,
    path: str,
    bodies: Sequence[bytes],
    *,
    connections: int,
    seconds: float,
    headers: Mapping[str, str] = _PICTURES,
    then: Sequence[str] = (),
) -> dict[str, object]:
    """Load a server.

    Args:
        host: its address.
        port: its port.
        path: where the bodies are posted to.
        bodies: sent in turn.
        connections: how many are open, each with one request under way.
        seconds: how long.
        headers: of every request.
        then: where the requests after the first are posted to, until it is ``path``'s turn again.

    Returns:
        ``requests``, ``seconds``, ``took_s`` (the same), ``statuses`` ("closed" where the server hung up),
        ``latencies_ms`` of those answered 200, ascending, ``client_cpu_s``.
    """
    requests = _requests(host, (path, *then), bodies, headers)
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
            try:
                status = client.receive()
            except ConnectionError:
                statuses[_LOST] += 1
                del clients[number]
                client.sock.close()  # epoll forgets it
                client = _Client((host, port))
                clients[client.sock.fileno()] = client
                poll.register(client.sock, select.EPOLLIN)
            else:
                if status is None:
                    continue
                now = time.perf_counter()
                if status == 200:
                    latencies.append(1000 * (now - client.sent_at))
                statuses[str(status)] += 1
            client.send(requests[turn % len(requests)])
            turn += 1
        now = time.perf_counter()
    spent = now - began
    for client in clients.values():
        client.sock.close()
    return {
        "requests": statuses.total(),
        "seconds": spent,
        "took_s": spent,
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
    timeout_ms: int | None = None,
    seed: int = 0,
    headers: Mapping[str, str] = _PICTURES,
    then: Sequence[str] = (),
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
        timeout_ms: the deadline each request names (``X-Request-Timeout-Ms``); None names none.
        seed: of the arrivals.
        headers: of every request.
        then: as of `closed_loop`.

    Returns:
        ``offered_per_s``, ``requests``, ``seconds``, ``took_s`` (until the last answer, where that came
        later), ``statuses``, ``latencies_ms`` of those answered 200, ascending, ``in_time`` (200 within the
        deadline), ``client_cpu_s``.
    """
    dice = random.Random(seed)  # noqa: S311  # arrivals, no secrets
    deadline = {} if timeout_ms is None else {"X-Request-Timeout-Ms": str(timeout_ms)}
    requests = _requests(host, (path, *then), bodies, {**headers, **deadline})
    drain_s = _DRAIN_S if timeout_ms is None else 2 * timeout_ms / 1000 + 1
    poll = select.epoll()
    busy: dict[int, tuple[_Client, float]] = {}
    idle: list[_Client] = []
    statuses: Counter[str] = Counter()
    latencies: list[float] = []
    offered, began, cpu = 0, time.perf_counter(), _cpu_s()
    due = last = began
    end = began + seconds
    while True:
        now = time.perf_counter()
        while due <= now and due < end:
            was_due, request = due, requests[offered % len(requests)]
            offered += 1
            due += dice.expovariate(rate)
            try:
                client = idle.pop() if idle else _Client((host, port))
                client.send(request)
            except ConnectionError:
                statuses[_LOST] += 1
                continue
            number = client.sock.fileno()
            busy[number] = (client, was_due)
            poll.register(number, select.EPOLLIN)
        if now >= end and (not busy or now > end + drain_s):
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
            last = time.perf_counter()
            if status == 200:
                latencies.append(1000 * (last - was_due))
            statuses[str(status) if status else _LOST] += 1
            idle.append(client) if status else client.sock.close()
    for client in [*idle, *(client for client, _ in busy.values())]:
        client.sock.close()
    if busy:
        statuses["unanswered"] += len(busy)
    return {
        "offered_per_s": offered / seconds,
        "requests": offered,
        "seconds": seconds,
        "took_s": max(seconds, last - began),
        "statuses": dict(statuses),
        "latencies_ms": sorted(latencies),
        "in_time": sum(timeout_ms is None or latency <= timeout_ms for latency in latencies),
        "client_cpu_s": _cpu_s() - cpu,
    }


def _requests(
    host: str, paths: Sequence[str], bodies: Sequence[bytes], headers: Mapping[str, str]
) -> list[bytes]:
    """Every body for every path; the paths take turns, and a body goes once round before the next."""
    lines = [f"Host: {host}", *(f"{name}: {text}" for name, text in headers.items())]
    rest = "\r\n".join(lines).encode()
    return [
        b"POST %s HTTP/1.1\r\n%s\r\nContent-Length: %d\r\n\r\n" % (path.encode(), rest, len(body)) + body
        for body in bodies
        for path in paths
    ]


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
    parser.add_argument("--seed", type=int, default=0, help="open loop: of the arrivals")
    parser.add_argument("--timeout-ms", type=int, help="open loop: deadline of each request")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--then", action="append", default=[], metavar="PATH")
    parser.add_argument("--header", nargs=2, action="append", metavar=("NAME", "TEXT"))
    given = parser.parse_args()
    bodies = [image.read_bytes() for image in given.images]
    where = (given.host, given.port, given.path, bodies)
    headers = dict(given.header) if given.header else _PICTURES
    seconds = given.seconds
    if given.rate:
        terms = {"rate": given.rate, "timeout_ms": given.timeout_ms, "seed": given.seed}
        result = open_loop(*where, seconds=seconds, headers=headers, then=given.then, **terms)
    else:
        result = closed_loop(
            *where, connections=given.connections, seconds=seconds, headers=headers, then=given.then
        )
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
