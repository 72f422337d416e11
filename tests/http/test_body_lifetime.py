"""A request's body dies with the request, on every route and however it ends, without the cycle collector."""

from __future__ import annotations

import gc
import json
import logging
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

from cpuserve.errors import ModelNotReady, RequestError, UndecodableImage, UnknownModel
from cpuserve.http.app import Application, Route, deepdetect_routes, deepstack_routes, routes
from cpuserve.protocols.call import Call, Reply
from cpuserve.protocols.deepdetect_names import DeepDetectNames
from cpuserve.serving.engine import Port

FORM = b'--b\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n%s\r\n--b--\r\n' % (b"x" * 5000)
BAD_FORM = b"--b\r\n" + b'Content-Disposition: form-data; name="a"\r\n\r\nv\r\n--b\r\n' * 2000
MULTIPART = {"content-type": "multipart/form-data; boundary=b"}
INFER = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [[1, 2]]}]}
).encode()
ROWS = b'{"instances": [[1, 2]]}'


class Bytes(bytearray):
    """A body that can be watched."""


class Pipeline:
    """Answers everything, or fails in the way it is told to."""

    name, version = "m", 1
    inputs = outputs = (Port(("x",), np.dtype("float32"), (2,)),)
    card = SimpleNamespace(labels=[], description="")
    failure = staticmethod(lambda: None)

    def _fail(self):
        error = self.failure()
        if error is not None:
            try:
                raise error
            finally:
                del error  # else this frame and the error keep each other

    def predict(self, picture, request, topk):
        assert len(picture)
        self._fail()
        return {"predictions": []}

    def infer(self, tensors, request):
        self._fail()
        return list(tensors)

    def infer_pictures(self, pictures, request):
        self._fail()
        return [np.zeros((len(pictures), 2), np.float32)]

    def predict_all(self, pictures, request, topk):
        return [self.predict(picture, request, topk) for picture in pictures]


class Pool:
    """One model."""

    stopping, ready, repository = False, True, None

    def __init__(self, pipeline):
        self.pipeline = pipeline
        self.models = {"m": {1: SimpleNamespace(file=None, state="READY", reason="", pipeline=pipeline)}}

    def pick(self, model, version, _headers):
        return self.get(model, version)

    def get(self, model, version=None):
        if model != "m":
            raise UnknownModel(f"no {model}")
        return self.pipeline


@pytest.fixture
def collector_off():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def pipeline():
    return Pipeline()


@pytest.fixture
def application(pipeline, tmp_path):
    pool = Pool(pipeline)
    more = (*deepdetect_routes(pool, DeepDetectNames(), tmp_path), *deepstack_routes(pool, "m"))
    return Application(pool, more=more)


def ask(application, path, body, method="POST", **headers):
    """Send one request as a connection does; the status, and what the body is watched by."""
    data = Bytes(body)
    watched = weakref.ref(data)
    call = Call(method, path, "", headers, data)
    del data
    return application(call).status, watched, call


DEEP = json.dumps({"service": "m", "data": ["QUJD" * 2000]}).encode()
REQUESTS = {
    "a picture": ("/predictions/m", b"picture", {}),
    "a picture for a version": ("/predictions/m/1", b"picture", {}),
    "a form": ("/predictions/m", FORM, MULTIPART),
    "a form for a version": ("/predictions/m/1", FORM, MULTIPART),
    "a form of too many parts": ("/predictions/m", BAD_FORM, MULTIPART),
    "a form without a file": ("/predictions/m", b"--b--\r\n", MULTIPART),
    "tensors": ("/v2/models/m/infer", INFER, {}),
    "tensors for a version": ("/v2/models/m/versions/1/infer", INFER, {}),
    "tensors that are no JSON": ("/v2/models/m/infer", b"{", {}),
    "a picture as tensor": (
        "/v2/models/m/infer",
        b"picture",
        {"inference-header-content-length": "0"},
    ),
    "rows": ("/v1/models/m:predict", ROWS, {}),
    "rows that are no JSON": ("/v1/models/m:predict", b"{", {}),
    "DeepDetect": ("/predict", DEEP, {}),
    "DeepStack": ("/v1/vision/detection", FORM.replace(b'name="a"', b'name="image"'), MULTIPART),
    "DeepStack without a form": ("/v1/vision/detection", b"picture", {}),
    "DeepStack with too many parts": ("/v1/vision/detection", BAD_FORM, MULTIPART),
    "DeepDetect without data": ("/predict", b'{"service": "m"}', {}),
    "a model that is not there": ("/predictions/nothing", b"picture", {}),
    "a path that is not there": ("/nothing", b"picture", {}),
    "a method that is not there": ("/v2/models/m", b"picture", {}),
    "log settings": ("/v2/logging", b"{}", {}),
    "wrong log settings": ("/v2/logging", b'{"a": 1}', {}),
    "trace settings": ("/v2/trace/setting", b"{}", {}),
    "a body that is not gzip": ("/predictions/m", b"picture", {"content-encoding": "gzip"}),
}
FAILURES = {
    "nothing": lambda: None,
    "a refusal": lambda: UndecodableImage("damaged"),
    "not ready": lambda: ModelNotReady("loading"),
    "a bug": lambda: KeyError("bug"),
    "no memory": MemoryError,
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.usefixtures("collector_off")
def test_nothing_keeps_the_body(application, pipeline, failure, monkeypatch):
    monkeypatch.setattr(logging.getLogger("cpuserve.http"), "disabled", True)  # pytest keeps what is logged
    pipeline.failure = FAILURES[failure]
    for name, (path, body, headers) in REQUESTS.items():
        _, watched, call = ask(application, path, body, **headers)
        assert watched() is None, (name, gc.get_referrers(watched()))
        assert call  # a connection keeps it until the next request


_OF_A_VERSION, _OF_A_LABEL = "/v1/models/m/versions/1:predict", "/v1/models/m/labels/<label>:predict"


def test_every_route_that_takes_a_body_was_asked():
    table = routes(SimpleNamespace(repository=None))
    asked = {path for path, _, _ in REQUESTS.values()}
    hot = [route.rule for route in table if route.method == "POST" and "repository" not in route.rule]
    for rule in hot:
        path = rule.replace("<model>", "m").replace("<version>", "1")
        assert path in asked or path in ("/v1/config/reload", _OF_A_VERSION, _OF_A_LABEL), rule


@pytest.mark.usefixtures("collector_off")
def test_a_refusal_by_flask_keeps_none_either(pipeline):
    def refuse(call):
        call.body()
        raise RequestError("no")

    def fine(call):
        return Reply(200, bytes(call.body()[:1]), [])

    application = Application(
        Pool(pipeline), more=(Route("POST", "/refuse", refuse), Route("POST", "/fine", fine))
    )
    for path, status in (("/refuse", 400), ("/fine", 200)):
        found, watched, _ = ask(application, path, b"x" * 5000)
        assert (found, watched()) == (status, None)
