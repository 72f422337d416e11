"""HTTP clients in one thread: a closed loop (connections) or an open loop (arrivals a second)."""

from __future__ import annotations

import argparse
import itertools
import json
import random
import resource
import select
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

__all__ = ["closed_loop", "open_loop"]

_CHUNK = 1 << 16
_OK = 200
_LOST, _UNANSWERED = 0, -1  # in the place of a status: the connection ended first, or the measurement
_NAMES = {_LOST: "closed", _UNANSWERED: "unanswered"}
_DRAIN_S = 30.0  # wait so long for the last answers
_IDLE_S = 0.05  # look at the clock so often when nothing more is due
_PICTURES = {"Content-Type": "image/jpeg"}


class _Client:
    """One connection and the request it waits for."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.sock = socket.create_connection(address)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.since = 0.0  # where the latency counts from
        self._answer = b""

    def send(self, request: bytes, since: float) -> None:
        self._answer = b""
        self.since = since
        self.sock.sendall(request)

    def receive(self) -> int | None:
        """Status of the answer once it is whole, else None; `_LOST` when the server hung up."""
        try:
            part = self.sock.recv(_CHUNK)
        except ConnectionError:
            return _LOST
        if not part:
            return _LOST
        self._answer += part
        head, separator, body = self._answer.partition(b"\r\n\r\n")
        if not separator:
            return None
        length = int(head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
        return int(head[9:12]) if len(body) >= length else None


class _Tally:
    """Counts answers and latencies, and the client's CPU time."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.latencies_ms: list[float] = []
        self.began = self.last = time.perf_counter()
        self._cpu_s = _cpu_s()

    def count(self, status: int, since: float) -> None:
        self.last = time.perf_counter()
        self.statuses[status] += 1
        if status == _OK:
            self.latencies_ms.append(1000 * (self.last - since))

    def figures(self) -> dict[str, object]:
        return {
            "statuses": {_NAMES.get(status, str(status)): many for status, many in self.statuses.items()},
            "latencies_ms": sorted(self.latencies_ms),
            "client_cpu_s": _cpu_s() - self._cpu_s,
        }


class _Waiting:
    """Connections of the closed loop: each waits for an answer, and sends again when it has come."""

    def __init__(self, address: tuple[str, int], connections: int) -> None:
        self._address = address
        self._poll = select.epoll()
        self._clients: dict[int, _Client] = {}
        for _ in range(connections):
            self._open()

    def _open(self) -> _Client:
        client = _Client(self._address)
        self._clients[client.sock.fileno()] = client
        self._poll.register(client.sock, select.EPOLLIN)
        return client

    def send(self, requests: Iterator[bytes]) -> None:
        for client in self._clients.values():
            client.send(next(requests), time.perf_counter())

    def receive(self, wait_s: float, requests: Iterator[bytes], tally: _Tally) -> None:
        for number, _ in self._poll.poll(wait_s):
            client = self._clients[number]
            status = client.receive()
            if status is None:
                continue
            tally.count(status, client.since)
            if status == _LOST:
                del self._clients[number]
                client.sock.close()  # epoll forgets it
            try:
                client = self._open() if status == _LOST else client
                client.send(next(requests), time.perf_counter())
            except ConnectionError:  # the server is gone, and with it this client; the others go on
                tally.count(_LOST, client.since)
                self._clients.pop(client.sock.fileno(), None)
                client.sock.close()

    def close(self) -> None:
        for client in self._clients.values():
            client.sock.close()
        self._poll.close()


class _Arriving:
    """Connections of the open loop: those that wait for an answer, and those free for the next request."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._poll = select.epoll()
        self._idle: list[_Client] = []
        self.busy: dict[int, _Client] = {}

    def send(self, request: bytes, due: float, tally: _Tally) -> None:
        try:
            client = self._idle.pop() if self._idle else _Client(self._address)
            client.send(request, due)
        except ConnectionError:
            tally.count(_LOST, due)
            return
        number = client.sock.fileno()
        self.busy[number] = client
        self._poll.register(number, select.EPOLLIN)

    def receive(self, wait_s: float, tally: _Tally) -> None:
        for number, _ in self._poll.poll(wait_s, 256):
            client = self.busy[number]
            status = client.receive()
            if status is None:
                continue
            self._poll.unregister(number)
            del self.busy[number]
            tally.count(status, client.since)
            self._idle.append(client) if status else client.sock.close()

    def close(self) -> None:
        for client in [*self._idle, *self.busy.values()]:
            client.sock.close()
        self._poll.close()


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
    """Load a server with a number of connections.

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
    requests = itertools.cycle(_requests(host, (path, *then), bodies, headers))
    clients = _Waiting((host, port), connections)
    tally = _Tally()
    clients.send(requests)
    now, end = tally.began, tally.began + seconds
    while now < end:
        clients.receive(end - now, requests, tally)
        now = time.perf_counter()
    clients.close()
    spent = now - tally.began
    return {"requests": tally.statuses.total(), "seconds": spent, "took_s": spent, **tally.figures()}


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
    deadline = {} if timeout_ms is None else {"X-Request-Timeout-Ms": str(timeout_ms)}
    requests = _requests(host, (path, *then), bodies, {**headers, **deadline})
    drain_s = _DRAIN_S if timeout_ms is None else 2 * timeout_ms / 1000 + 1
    arrivals = _arrivals(rate, seconds, seed)
    clients = _Arriving((host, port))
    tally = _Tally()
    end, sent = tally.began + seconds, 0
    while True:
        now = time.perf_counter()
        while sent < len(arrivals) and tally.began + arrivals[sent] <= now:
            clients.send(requests[sent % len(requests)], tally.began + arrivals[sent], tally)
            sent += 1
        if now >= end and (not clients.busy or now > end + drain_s):
            break
        idle_s = tally.began + arrivals[sent] - now if sent < len(arrivals) else _IDLE_S
        clients.receive(idle_s, tally)
    clients.close()
    if clients.busy:
        tally.statuses[_UNANSWERED] = len(clients.busy)
    return {
        "offered_per_s": sent / seconds,
        "requests": sent,
        "seconds": seconds,
        "took_s": max(seconds, tally.last - tally.began),
        "in_time": sum(timeout_ms is None or latency <= timeout_ms for latency in tally.latencies_ms),
        **tally.figures(),
    }


def _arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """When requests are due, in seconds from the beginning, which is when the first is."""
    dice = random.Random(seed)  # noqa: S311  # arrivals, no secrets
    due, found = 0.0, []
    while due < seconds:
        found.append(due)
        due += dice.expovariate(rate)
    return found


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
    """Run the clients in their own process, which keeps their CPU time apart, and print JSON."""
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
