"""The way of one request through the server with a fake engine, socket to socket; it measures nothing."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cpuserve.models.card import Card
from cpuserve.models.repository import ModelFile
from cpuserve.serving.batcher import Batcher
from cpuserve.serving.control import Control
from cpuserve.serving.engine import Array, Part, Port
from cpuserve.serving.feed import Feed
from cpuserve.serving.graph import ImageInput
from cpuserve.serving.pipeline import Pictures, Pipeline
from cpuserve.serving.pool import ModelState, Pool
from cpuserve.serving.postprocess import Classifier
from cpuserve.serving.stats import Statistics
from cpuserve.settings import Settings
from cpuserve.web.access import Gate
from cpuserve.web.app import Application
from cpuserve.web.body_budget import BodyBudget
from cpuserve.web.connection import Connection
from cpuserve.web.limits import Limits
from cpuserve.web.ratelimit import RateLimit

__all__ = ["hot_path"]

_SIDE, _CLASSES = 32, 10


class _Slot:
    def __init__(self, rows: int) -> None:
        self.inputs = (np.zeros((rows, _SIDE, _SIDE, 3), np.uint8),)
        self._outputs = (np.tile(np.linspace(0, 1, _CLASSES, dtype=np.float32), (rows, 1)),)

    def outputs(self, first: int, count: int) -> tuple[Array, ...]:
        return tuple(array[first : first + count] for array in self._outputs)


class _Engine:
    """Answers the same to every picture, and costs nothing."""

    sizes, rows, streams = (1, 2), 2, 1
    inputs = (Port(("x",), np.dtype(np.uint8), (_SIDE, _SIDE, 3)),)
    outputs = (Port(("y",), np.dtype(np.float32), (_CLASSES,)),)

    def new_slot(self) -> _Slot:
        return _Slot(self.rows)

    def run(self, slot: _Slot, parts: Sequence[Part]) -> None:
        pass

    def read_back(self) -> Mapping[str, str]:
        return {}


@contextmanager
def hot_path() -> Iterator[Callable[[], bytes]]:
    """Yields a function that sends one picture over a socket, serves it as a worker does, gives the answer.

    Everything is what the server runs but the engine: the connection and its parser, the WSGI environment,
    the application, decoding of a small JPEG, the batcher, the best classes, JSON, counters. Waiting for
    events and the queue between threads are left out: how often they run depends on the load.
    """
    statistics = Statistics(rows=1)
    recorder = statistics.recorder(0, "fake", 1)
    source = ImageInput("x", _SIDE, _SIDE, 3, "NHWC")
    feed = Feed.of(source, Card(reverse_input_channels=True), exact=False, max_pixels=10_000)
    batcher = Batcher(_Engine(), recorder)
    labels = [f"class {number}" for number in range(_CLASSES)]
    pipeline = Pipeline("fake", 1, Card(), batcher, Pictures(feed, batcher), Classifier(labels), recorder)
    file = ModelFile("fake", 1, Path("fake.xml"))
    with tempfile.TemporaryDirectory() as nothing:
        pool = Pool(Settings(model_repository=Path(nothing)), 1, statistics, Control(rows=1), 0)
    pool.models["fake"] = {1: ModelState(file, state="READY", pipeline=pipeline)}
    application = Application(pool)
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    ours, peer = listener.accept()
    listener.close()
    limits = Limits(max_body_bytes=1 << 20, request_timeout_s=1e6, keep_alive_s=1e6)
    gate = Gate(None, RateLimit(0, 1))
    check = gate.check if gate.needed else None
    connection = Connection(ours, peer, {"wsgi.version": (1, 0)}, limits, check, BodyBudget(1 << 20))
    grey = np.full((_SIDE, _SIDE, 3), 99, np.uint8)
    picture = cv2.imencode(".jpg", grey)[1].tobytes()
    head = f"POST /predictions/fake HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(picture)}\r\n\r\n"
    message = head.encode() + picture

    def serve() -> bytes:
        client.sendall(message)
        while not connection.receive():
            pass
        answer: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
            answer[:] = [status, headers]

        connection.terms(10.0)
        body = b"".join(application(connection.environ(), start_response))  # type: ignore[arg-type]
        connection.answer(answer[0], answer[1], body)
        connection.settle()
        return client.recv(1 << 16)

    try:
        yield serve
    finally:
        client.close()
        connection.close()
