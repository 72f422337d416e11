"""Good, bad and rude requests, and the statuses they may get; it measures nothing."""

from __future__ import annotations

import gzip
import http.client
import json
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Request", "Seen", "mix", "send_all"]

_BUSY = {503, 504}  # a refusal for want of time is right for any request with a body
_BYTES = {"FP32": 4, "FP16": 2, "UINT8": 1, "INT64": 8, "INT32": 4, "INT8": 1}


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        kind: what it tries.
        method: of HTTP.
        path: of HTTP.
        body: sent whole, unless ``cut`` says otherwise.
        headers: beside Host and Content-Length.
        statuses: that are right, beside 503 and 504.
        cut: bytes of the request after which the client hangs up; the whole of it is cut before the answer.
        raw: sent instead of a request made from the rest.
    """

    kind: str
    method: str = "POST"
    path: str = ""
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    statuses: frozenset[int] = frozenset({200})
    cut: float | None = None
    raw: bytes = b""


@dataclass
class Seen:
    """What came back.

    Attributes:
        answers: how many, by kind and status; "hung up" where the client did.
        wrong: answers that were not right, the first of them.
    """

    answers: dict[str, Counter[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def mix(host: str, port: int, model: str, pictures: Sequence[Path], bad: Sequence[Path]) -> list[Request]:
    """Requests of every kind for a model that takes pictures; most of those that are not photos are bad.

    Args:
        host: of the server that serves the model.
        port: of the server.
        model: its name.
        pictures: that can be answered.
        bad: that cannot, or are odd.
    """
    connection = http.client.HTTPConnection(host, port, timeout=60)
    connection.request("GET", f"/v2/models/{model}")
    metadata = json.loads(connection.getresponse().read())
    connection.close()
    predict, infer = f"/predictions/{model}", f"/v2/models/{model}/infer"
    photos = [file.read_bytes() for file in pictures]
    small = min(photos, key=len)
    found = [Request("photo", path=predict, body=photo) for photo in photos]
    found += [
        Request("photo in V2", path=infer, body=photo, headers={"Inference-Header-Content-Length": "0"})
        for photo in photos
    ]
    found += [
        Request("bad picture", path=predict, body=file.read_bytes(), statuses=frozenset({200, 400, 413, 415}))
        for file in bad
    ]
    found += [Request("tensor", path=infer, **_tensor(metadata["inputs"][0], count)) for count in (1, 3)]
    form = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n' + small + b"\r\n--b--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    found.append(Request("form", path=predict, body=form, headers=kind))
    found.append(Request("bad form", path=predict, body=form[:40], headers=kind, statuses=_refused(400)))
    zipped = {"Content-Encoding": "gzip"}
    found.append(Request("gzip", path=predict, body=gzip.compress(small), headers=zipped))
    for body in (b"no gzip", gzip.compress(small)[:-9], gzip.compress(bytes(64 << 20))):
        found.append(
            Request("bad gzip", path=predict, body=body, headers=zipped, statuses=_refused(400, 413))
        )
    found += [Request("bad V2", path=infer, body=body, statuses=_refused(400)) for body in _MALFORMED]
    for path in ("/predictions/nothing", f"{predict}/99", "/v2/models/..%2fx/infer", "/nowhere"):
        found.append(Request("wrong model", path=path, body=small, statuses=_refused(404)))
    found += [
        Request("read", "GET", path) for path in ("/v2", "/v2/health/ready", "/metrics", "/v2/models/stats")
    ]
    found.append(Request("hurry", path=predict, body=small, headers={"X-Request-Timeout-Ms": "1"}))
    found += [
        Request("hung up", path=predict, body=photo, cut=share)
        for photo, share in zip(photos * 2, (0.01, 0.3, 0.9, 1, 1, 1), strict=False)
    ]
    found += [Request("no HTTP", raw=raw, statuses=_refused(400, 413, 414, 501)) for raw in _NO_HTTP]
    return found


def _refused(*statuses: int) -> frozenset[int]:
    return frozenset(statuses)


def _tensor(described: Mapping[str, Any], count: int) -> dict[str, Any]:
    shape = [count, *described["shape"][1:]]
    size = _BYTES[described["datatype"]]
    for side in shape:
        size *= side
    tensor = {"name": described["name"], "datatype": described["datatype"], "shape": shape}
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": size}}]}).encode()
    return {"body": head + bytes(size), "headers": {"Inference-Header-Content-Length": str(len(head))}}


_MALFORMED = (
    b"",
    b"{",
    b"[]",
    b'{"inputs": []}',
    b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": ["a"]}]}',
    b'{"inputs": [{"name": "no such input", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}',
    b'{"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": ["?"]}]}',
    b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [99999, 99999], "data": [1]}], "outputs": 3}',
    b'{"inputs": ' + b"[" * 5000,
)
_NO_HTTP = (
    b"hello\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
)


def send_all(host: str, port: int, kinds: Sequence[Request], count: int, connections: int, seed: int) -> Seen:
    """Send ``count`` requests drawn from ``kinds`` over a few connections.

    Photos come as often as all the other requests together.
    """
    draw = random.Random(seed)  # noqa: S311  # repeatable, not secret
    photos = [request for request in kinds if request.kind.startswith("photo")] or kinds
    others = [request for request in kinds if not request.kind.startswith("photo")] or kinds
    order = iter([draw.choice(photos if draw.random() < 0.5 else others) for _ in range(count)])
    seen, lock = Seen(), threading.Lock()
    with ThreadPoolExecutor(connections) as pool:
        for client in [pool.submit(_client, host, port, order, seen, lock) for _ in range(connections)]:
            client.result()
    return seen


def _client(host: str, port: int, order: Iterator[Request], seen: Seen, lock: threading.Lock) -> None:
    connection = http.client.HTTPConnection(host, port, timeout=120)
    while True:
        with lock:
            request = next(order, None)
        if request is None:
            break
        status = _send(connection, host, port, request)
        with lock:
            seen.answers.setdefault(request.kind, Counter())[str(status)] += 1
            if status != "hung up" and status not in request.statuses | _BUSY and len(seen.wrong) < 20:
                seen.wrong.append(f"{request.kind} {request.method} {request.path}: {status}")
    connection.close()


def _send(connection: http.client.HTTPConnection, host: str, port: int, request: Request) -> int | str:
    if request.cut is not None or request.raw:
        return _rude(host, port, request)
    try:
        connection.request(request.method, request.path, request.body or None, dict(request.headers))
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return repr(error)
    return answer.status


def _rude(host: str, port: int, request: Request) -> int | str:
    """Send on a connection of its own; hang up where the request is cut, else read the answer to its end."""
    head = f"POST {request.path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(request.body)}\r\n\r\n"
    message = request.raw or head.encode() + request.body
    with socket.create_connection((host, port), timeout=120) as sock:
        if request.cut is not None:
            sock.sendall(message[: max(1, int(len(message) * request.cut))])
            if len(message) % 2:  # half of them by a reset
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return "hung up"
        try:
            sock.sendall(message)
            return int(sock.recv(1 << 16)[9:12])
        except (OSError, ValueError) as error:
            return repr(error)
