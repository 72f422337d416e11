"""The ZeroMQ server in this process, over a model that a test makes, asked by a client like Frigate's."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import zmq

from cpuserve.errors import ModelNotReady, RateLimited
from cpuserve.http.request_loop import RequestLoop
from cpuserve.protocols.body_budget import BodyBudget
from cpuserve.protocols.client_limits import ClientLimits
from cpuserve.serving.admission import Admission
from cpuserve.serving.decode import Decoder
from cpuserve.serving.picture_input import PictureInput
from cpuserve.serving.postprocess import Classifier, Detector
from cpuserve.serving.preprocess import Resizer
from cpuserve.zmq import server as server_module
from cpuserve.zmq.frigate_detector import FrigateDetector
from cpuserve.zmq.server import ZmqServer, ZmqTransport
from tests.zmq.frigate_client import FrigateClient

WAIT_S = 30
BLUE = np.zeros((1, 40, 60, 3), np.uint8)
BLUE[..., 2] = 200


class Models:
    """One model with an input of 30x20 pixels, BGR. It finds one object, as sure as the picture is blue."""

    def __init__(self):
        self.held = threading.Event()
        self.entered = threading.Event()
        self.count = 0
        self.held.set()
        self.failing: Exception | None = None
        self.kind = "detections"
        self._input = PictureInput(Decoder("BGR"), Resizer(30, 20))

    def pick(self, name, _version, _headers):
        return self.get(name)

    def get(self, name):
        assert name == "detector"
        if isinstance(self.failing, ModelNotReady):
            raise self.failing
        post = object.__new__(Detector if self.kind == "detections" else Classifier)
        way = SimpleNamespace(picture_input=self._input)
        return SimpleNamespace(picture_path=lambda: way, see=self._see, post=post)

    def _see(self, picture, request, *, mask):
        assert not mask
        self.count += 1
        self.entered.set()
        assert self.held.wait(WAIT_S)
        if self.failing is not None:
            raise self.failing
        assert picture.pixels.shape == (20, 30, 3)
        blue = float(picture.pixels[..., 0].mean()) / 255
        box = [0, picture.height / 4, picture.width / 2, picture.height]
        return {self.kind: [{"class_id": 7, "label": "car", "probability": blue, "box": box}] * 30}, None


@contextmanager
def serving_zmq(models, *, check=None, budget=1 << 28, threads=1, listening=None, endpoint=None, **limits):
    """Serve a model; gives the endpoint, the server and what was counted."""
    loop = RequestLoop(
        *(threads, Admission(64, threads)),
        deadline_s=60.0,
        with_priorities=False,
        log=logging.getLogger("test"),
    )
    counted: list[str] = []
    loop.runner.recorder = SimpleNamespace(add=counted.append, put_count=lambda *_: None)
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.setblocking(False)
        address = endpoint or f"tcp://127.0.0.1:{made.getsockname()[1]}"
        transport = ZmqTransport(
            *(loop.submit, loop.runner.note_refused, check, ClientLimits(**limits), BodyBudget(budget))
        )
        server = ZmqServer(
            {address: (listening or made).fileno()}, FrigateDetector(models, "detector"), transport
        )
        loop.start()
        server.start()
        try:
            yield SimpleNamespace(
                address=address, server=server, counted=counted, budget=transport.budget, listening=made
            )
        finally:
            server.stop(0)
            server._thread.join(WAIT_S)
            loop.end(WAIT_S)
            assert not server.running


@pytest.fixture
def models():
    return Models()


@pytest.fixture
def served(models):
    with serving_zmq(models) as running:
        yield running


def test_any_model_of_frigate_is_there(served, caplog):
    with (
        caplog.at_level(logging.INFO, "cpuserve.zmq"),
        FrigateClient(served.address, "theirs.onnx") as client,
    ):
        assert client.ready
    assert "'theirs.onnx', model 'detector' answers" in caplog.text


def test_who_asks_while_the_model_is_loaded_is_answered_when_it_is_there(models, served):
    models.failing = ModelNotReady("it is being loaded")
    with FrigateClient(served.address, ask=False) as early:
        early.socket.send_multipart([json.dumps({"model_request": True, "model_name": "a.onnx"}).encode()])
        assert not early.socket.poll(100)
        models.failing = None
        assert json.loads(early.socket.recv_multipart()[0])["model_loaded"]
        assert early.detect(BLUE)[0, 0] == 7


def test_a_server_that_stops_answers_who_waits_for_a_model(models, served):
    models.failing = ModelNotReady("it is being loaded")
    with FrigateClient(served.address, ask=False) as early:
        early.socket.send_multipart([json.dumps({"model_request": True, "model_name": "a.onnx"}).encode()])
        assert not early.socket.poll(100)
        served.server.stop(WAIT_S)
        assert not json.loads(early.socket.recv_multipart()[0])["model_loaded"]


def test_questions_for_a_model_do_not_pile_up(models, served, monkeypatch):
    monkeypatch.setattr(server_module, "_MOST_QUESTIONS", 1)
    models.failing = ModelNotReady("it is being loaded")
    question = [json.dumps({"model_request": True, "model_name": "a.onnx"}).encode()]
    with FrigateClient(served.address, ask=False) as first, FrigateClient(served.address, ask=False) as last:
        first.socket.send_multipart(question)
        assert not first.socket.poll(100)
        last.socket.send_multipart(question)
        assert not json.loads(first.socket.recv_multipart()[0])["model_loaded"]
        assert not last.socket.poll(50)


def test_a_model_that_is_not_loaded_is_there_and_not_loaded(models, served, monkeypatch):
    monkeypatch.setattr(server_module, "_MODEL_WAIT_S", 0.1)
    models.failing = ModelNotReady("it could not be loaded")
    with FrigateClient(served.address) as client:
        assert (client.told["model_available"], client.told["model_loaded"]) == (True, False)
        assert "could not be loaded" in client.told["error"]


def test_a_model_that_finds_no_boxes_is_not_loaded_for_frigate(models, served, caplog):
    models.kind = "predictions"
    with FrigateClient(served.address) as client:
        assert not client.ready
        assert "zmq_model takes a detector" in client.told["error"]
    assert "zmq_model takes a detector" in caplog.text


def test_a_model_that_is_sent_is_not_taken(served):
    with FrigateClient(served.address) as client:
        told = client.ask({"model_data": True, "model_name": "theirs.onnx"}, b"x" * 1000)
        assert (told["model_saved"], told["model_loaded"]) == (False, False)
        assert "zmq_model" in told["error"]


FORMS = {
    "bytes": BLUE,
    "bytes, channels first": BLUE.transpose(0, 3, 1, 2),
    "without a batch": BLUE[0],
    "0 to 1": BLUE.astype(np.float32) / 255,
    "0 to 255": BLUE.astype(np.float32),
    "0 to 1, channels first": np.ascontiguousarray(BLUE.transpose(0, 3, 1, 2)).astype(np.float32) / 255,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_picture_of_any_form_is_answered_in_shares_of_it(served, form):
    with FrigateClient(served.address) as client:
        rows = client.detect(FORMS[form])
        assert rows.shape == (20, 6)  # of 30 objects
        assert rows[0] == pytest.approx([7, 200 / 255, 0.25, 0, 1, 0.5])
    assert served.budget.held == 0


def test_clients_beside_each_other_get_their_own_answers(served):
    pictures = [np.full((1, 8, 8, 3), value, np.uint8) for value in range(0, 250, 25)]
    clients = [FrigateClient(served.address) for _ in pictures]
    for client, picture in zip(clients, pictures, strict=True):
        head = {"shape": [1, 8, 8, 3], "dtype": "uint8"}
        client.socket.send_multipart([json.dumps(head).encode(), picture.tobytes()])
    for client, picture in zip(clients, pictures, strict=True):
        rows = np.frombuffer(client.socket.recv_multipart()[1], np.float32)
        assert rows[1] == pytest.approx(picture[0, 0, 0, 0] / 255)
        client.__exit__()


def header(**more):
    return json.dumps({"shape": [1, 2, 2, 3], "dtype": "uint8", **more}).encode()


REFUSED = {
    "no JSON": ([b"{", b"x" * 12], "not JSON"),
    "a list": ([b"[]", b"x" * 12], "JSON object"),
    "a long header": ([b" " * 70_000, b"x" * 12], "at most 65536 bytes"),
    "one part": ([header()], "2 parts"),
    "three parts": ([header(), b"x" * 12, b"y"], "2 parts"),
    "too few values": ([header(), b"x" * 11], "11 bytes were sent"),
    "another type": ([header(dtype="float16"), b"x" * 24], "input_dtype"),
    "a type that is none": ([header(dtype=[1]), b"x" * 24], "dtype is uint8 or float32"),
    "no shape": ([header(shape=None), b"x" * 12], "shape is a list"),
    "a shape of floats": ([header(shape=[1.0, 2, 2, 3]), b"x" * 12], "shape is a list"),
    "a shape below 0": ([header(shape=[-1, -2, 2, 3]), b"x" * 12], "shape is a list"),
    "a huge shape": ([header(shape=[1 << 62, 1 << 62, 3]), b"x" * 12], "12 bytes were sent"),
    "two pictures": ([header(shape=[2, 2, 1, 3]), b"x" * 12], "input_tensor"),
    "the width first": ([header(shape=[2, 3, 2, 1]), b"x" * 12], "input_tensor"),
    "no pixels": ([header(dtype="float32"), np.full(12, -1, np.float32).tobytes()], "no pixels"),
    "no numbers": ([header(dtype="float32"), np.full(12, np.nan, np.float32).tobytes()], "no pixels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_picture_finds_nothing_and_is_told_why(served, name, caplog):
    parts, words = REFUSED[name]
    with FrigateClient(served.address) as client:
        document, rows = client.send(parts)
        assert words in document["error"]
        assert not rows.any()
        assert words in caplog.text  # Frigate does not show it
        assert client.detect(BLUE)[0, 0] == 7  # the connection goes on
    assert served.budget.held == 0


def test_what_the_model_refuses_finds_nothing(models, served):
    with FrigateClient(served.address) as client:
        models.kind = "classes"
        document, rows = client.send([header(), b"x" * 12])
        assert "zmq_model takes a detector" in document["error"]
        assert not rows.any()
        models.failing = RuntimeError("a secret")
        document, rows = client.send([header(), b"x" * 12])
        assert "internal error" in document["error"]
        models.failing = ModelNotReady("it is loading")
        assert "loading" in client.send([header(), b"x" * 12])[0]["error"]


def test_limits_of_clients_hold(models):
    def check(call):
        assert (call.address, call.client) == ("127.0.0.1", "127.0.0.1")
        if check.used > 1:
            raise RateLimited("too many", 1.0)
        check.used += 1

    check.used = 0
    with serving_zmq(models, check=check, budget=4000) as running, FrigateClient(running.address) as client:
        document, _ = client.send([header(shape=[40, 40, 3]), b"x" * 4800])
        assert "max_unfinished_body_bytes" in document["error"]
        assert "too many" in client.send([header(), b"x" * 12])[0]["error"]


def test_a_message_above_the_limit_ends_its_connection_only(models):
    with serving_zmq(models, max_body_bytes=20_000) as running, FrigateClient(running.address) as client:
        with FrigateClient(running.address, patience_ms=500) as other, pytest.raises(zmq.Again):
            other.detect(np.zeros((1, 100, 100, 3), np.uint8))
        assert client.detect(BLUE)[0, 0] == 7


def test_a_message_without_an_envelope_is_dropped(served, caplog):
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(served.address)
        dealer.send_multipart([header(), b"x" * 12])
        with FrigateClient(served.address) as client:
            assert client.detect(BLUE)[0, 0] == 7
        assert not dealer.poll(50)
    assert "without an envelope" in caplog.text


def test_a_client_that_gave_up_leaves_nothing_behind(models, served):
    models.held.clear()
    with FrigateClient(served.address, patience_ms=1) as client, pytest.raises(zmq.Again):
        client.detect(BLUE)
    assert models.entered.wait(WAIT_S)
    models.held.set()
    with FrigateClient(served.address) as client:
        assert client.detect(BLUE)[0, 0] == 7
    assert served.budget.held == 0


def test_pictures_of_clients_that_gave_up_are_not_computed(models, served):
    models.held.clear()
    with FrigateClient(served.address) as first:
        first.socket.send_multipart([header(), b"x" * 12])
        assert models.entered.wait(WAIT_S)
        for _ in range(5):  # queued behind it
            with FrigateClient(served.address, patience_ms=30) as client, pytest.raises(zmq.Again):
                client.detect(BLUE)
        with FrigateClient(served.address) as last:
            last.socket.send_multipart([header(), b"x" * 12])
            time.sleep(0.2)  # from 50 ms on it is looked
            models.held.set()
            for client in (first, last):
                _, rows = client.socket.recv_multipart()
                assert np.frombuffer(rows, np.float32)[0] == 7
    assert models.count == 2
    assert served.counted.count("refused_client_left") == 5
    assert served.budget.held == 0


def test_a_server_that_stops_answers_what_it_has_and_leaves_its_clients_to_others(models, served):
    models.held.clear()
    with FrigateClient(served.address) as client:
        client.socket.send_multipart([header(), b"x" * 12])
        assert models.entered.wait(WAIT_S)
        served.server.stop(WAIT_S)
        models.held.set()
        assert client.socket.recv_multipart()
        served.server._thread.join(WAIT_S)
        assert not served.server.running
        with serving_zmq(models, listening=served.listening, endpoint=served.address):
            assert client.detect(BLUE)[0, 0] == 7  # ZeroMQ connects again by itself


def test_an_idle_server_stops_at_once_and_a_waiting_one_when_its_time_is_over(models):
    with serving_zmq(models) as running:
        began = time.monotonic()
        running.server.stop(WAIT_S)
        running.server._thread.join(WAIT_S)
        assert time.monotonic() - began < WAIT_S / 2
    models.held.clear()
    with serving_zmq(models) as running, FrigateClient(running.address) as client:
        client.socket.send_multipart([header(), b"x" * 12])
        assert models.entered.wait(WAIT_S)
        running.server.stop(0.1)
        running.server._thread.join(WAIT_S)
        assert not running.server.running
        models.held.set()


def test_a_server_told_to_stop_first_never_starts(models):
    transport = ZmqTransport(lambda _: None, lambda _: None, None, ClientLimits(), BodyBudget(1))
    server = ZmqServer({}, FrigateDetector(models, "detector"), transport)
    server.stop(1)
    server.start()
    assert not server.running
