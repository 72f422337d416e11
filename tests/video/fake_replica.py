"""A small server that speaks as much of V2 as a replica needs, and misbehaves as a test asks it to."""

from __future__ import annotations

import json
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WIDTH, HEIGHT = 8, 6
SPOILT = {
    "number": lambda _: 7,
    "nothing": lambda _: {},
    "other": lambda answer: {**answer, "model": "shapes"},
    "later": lambda answer: {**answer, "version": "9"},
    "null": lambda answer: {**answer, "detections": None},
    "nameless": lambda answer: {**answer, "detections": [{"probability": 0.5, "box": [0, 0, 1, 1]}]},
    "words": lambda answer: {**answer, "classes": ["car"]},
}
"""Answers that are JSON, and not of the model."""
ANSWER = {"name": "answer", "datatype": "BYTES", "shape": [1]}


class FakeReplica:
    """Answers ``{"sum": ..., "size": [...]}`` to each frame.

    Attributes:
        url: of the server.
        behaviour: of infer calls: ``good``, ``busy``, ``hang``, ``garbage``, ``half``, ``cut``, ``reset``,
            ``refuse``, ``error``, or one of ``SPOILT``; a test may change it.
        name: of its model.
        ready: whether the model is ready.
        missing: whether there is none.
        hangs: whether it answers no question about the model until it is released.
        described: whether it has said what its model is.
        after: it says nothing of its model before this is set.
        checksum: of its model.
        delay_s: of every frame, which it says in ``Server-Timing``.
        overhead_s: of every request, which it does not say.
        frames: the sum of each frame that it answered.
        requests: infer calls that came, by the number of their frames.
        keys: API keys that came.
        probes: times somebody asked whether it is ready.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.behaviour, self.ready, self.checksum, self.version, self.delay_s = "good", True, "abc", "1", 0.0
        self.overhead_s, self.missing, self.hangs, self.name = 0.0, False, False, "colours"
        self.frames: list[int] = []
        self.requests: list[int] = []
        self.keys: set[str | None] = set()
        self.probes = 0
        self.released, self.described = threading.Event(), threading.Event()
        self.after: threading.Event | None = None
        replica = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                replica.get(self)

            def do_POST(self):
                replica.infer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def get(self, handler):
        self.keys.add(handler.headers.get("X-API-Key"))
        if self.hangs:
            self.released.wait(60)
        if self.after is not None:
            self.after.wait(60)
        if handler.path.startswith("/v2/v2/"):
            return reply(handler, 404, b'{"error": "there is nothing"}')
        if self.missing:
            return reply(handler, 404, b'{"error": "no such model"}')
        if handler.path.endswith("/ready"):
            self.probes += 1
            status = 200 if self.ready else 503
            return reply(handler, status, b"" if self.ready else b'{"error": "still loading"}')
        if handler.path.endswith("/config"):
            picture = {"width": WIDTH, "height": HEIGHT, "colour": "RGB", "fit": "standard", "pad_value": 0}
            values = {"sha256": self.checksum, "version": self.version, "picture_input": json.dumps(picture)}
            found = {"parameters": {name: {"string_value": value} for name, value in values.items()}}
            reply(handler, 200, json.dumps(found).encode())
            return self.described.set()
        found = {"name": self.name, "inputs": [{"name": "image"}], "outputs": []}
        return reply(handler, 200, json.dumps(found).encode())

    def infer(self, handler):
        length, head_length = (
            int(handler.headers[name]) for name in ("Content-Length", "Inference-Header-Content-Length")
        )
        body = handler.rfile.read(length)
        head = json.loads(body[:head_length])
        count, *shape = head["inputs"][0]["shape"]
        assert shape == [HEIGHT, WIDTH, 3]
        pixels = body[head_length:]
        size = len(pixels) // count
        self.requests.append(count)
        time.sleep(count * self.delay_s + self.overhead_s)
        behaviour = self.behaviour
        if behaviour == "busy":
            return reply(handler, 503, b'{"error": "full"}', **{"Retry-After": "1"})
        if behaviour == "hang":
            self.released.wait(60)
            return None
        if behaviour == "garbage":
            return reply(handler, 200, b"<html>welcome</html>")
        if behaviour == "reset":
            handler.close_connection = True
            return handler.connection.close()
        if behaviour == "error":
            return reply(handler, 500, b'{"error": "the model failed"}')
        sums = [sum(pixels[place * size : (place + 1) * size]) for place in range(count)]
        if behaviour == "refuse" and 0 in sums:
            return reply(handler, 400, b'{"error": "a black frame"}')
        parameters = head["parameters"]
        said = {"model": "colours", "version": self.version}
        size_ = [parameters["frame_width"], parameters["frame_height"]]
        answers = [{**said, "sum": one, "size": size_} for one in sums]
        if behaviour in SPOILT:
            answers = [SPOILT[behaviour](one) for one in answers]
        if behaviour == "half":
            answers = answers[1:]
        self.frames += sums
        texts = [json.dumps(one).encode() for one in answers]
        output = b"".join(struct.pack("<I", len(text)) + text for text in texts)
        said = json.dumps({"outputs": [{**ANSWER, "parameters": {"binary_data_size": len(output)}}]}).encode()
        if behaviour == "cut":
            handler.close_connection = True
            return reply(handler, 200, said, **{"Inference-Header-Content-Length": str(len(said))}, more=99)
        total_ms = 1000 * count * self.delay_s + 1
        return reply(
            *(handler, 200, said + output),
            **{
                "Inference-Header-Content-Length": str(len(said)),
                "Server-Timing": f"decode;dur=0.0, queue;dur=0.0, infer;dur=1.0, total;dur={total_ms}",
            },
        )

    def stop(self):
        if not self.thread.is_alive():
            return
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def reply(handler, status: int, body: bytes, *, more: int = 0, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body) + more))
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def fake_replicas(count: int, tls: ssl.SSLContext | None = None) -> Iterator[list[FakeReplica]]:
    """So many of them."""
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            found.append(FakeReplica(tls))
            stack.callback(found[-1].stop)
        yield found
