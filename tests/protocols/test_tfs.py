"""TensorFlow Serving's forms over a model with several inputs and outputs, which no real test model has."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace

import numpy as np
import pytest

from cpuserve.errors import RequestError, UnknownModel
from cpuserve.protocols.call import Call, answer
from cpuserve.protocols.tfs import TensorFlowServing
from cpuserve.serving.engine import Port

FLOAT, BYTE = np.dtype("float32"), np.dtype("uint8")


class Sums:
    """A model that adds: `a` [N, 2] and `b` [N] give `sum` [N, 2] and `first` [N]."""

    name, version = "sums", 3
    inputs = (Port(("a", "a:0"), FLOAT, (2,)), Port(("b",), BYTE, ()))
    outputs = (Port(("sum",), FLOAT, (2,)), Port(("first",), FLOAT, ()))

    def infer(self, tensors, _request):
        a, b = tensors
        assert (a.dtype, b.dtype) == (FLOAT, BYTE)
        if a.ndim != 2 or a.shape[1] != 2 or b.shape != a.shape[:1]:
            raise RequestError(f"shapes {a.shape} {b.shape}")
        return [a + b[:, None], a[:, 0]]


class Lengths:
    """A model that answers the length of each picture, or its tensor doubled."""

    name, version = "lengths", 1
    inputs = (Port(("picture",), BYTE, (2,)),)
    outputs = (Port(("length",), FLOAT, (1,)),)

    def infer_pictures(self, pictures, _request):
        return [np.array([[len(picture)] for picture in pictures], np.float32)]

    def infer(self, tensors, _request):
        return [tensors[0].astype(np.float32) * 2]


class Pool:
    def __init__(self):
        def states(pipeline, *versions):
            return {
                version: SimpleNamespace(
                    file=SimpleNamespace(name=pipeline.name, version=version),
                    state=state,
                    reason=reason,
                    pipeline=pipeline if state == "READY" else None,
                )
                for version, state, reason in versions
            }

        self.models = {
            "sums": states(Sums(), (2, "READY", ""), (3, "UNAVAILABLE", "no layer Foo"), (4, "LOADING", "")),
            "lengths": states(Lengths(), (1, "READY", "")),
        }

    def get(self, name, version=None):
        return self.known(name, version).pipeline

    def pick(self, name, version, _headers):
        return self.get(name, version)

    def labelled(self, name, label):
        if label != "stable":
            raise UnknownModel(f"{name} has no label {label}")
        return "2"

    def known(self, name, version=None):
        for number, model in self.models.get(name, {}).items():
            if version in (None, "0", str(number)):
                return model
        raise UnknownModel(f"no {name} {version}")


@pytest.fixture
def routes():
    return TensorFlowServing(Pool())


def predict(routes, model, document):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    call = Call("POST", "/", data=body)
    reply = answer(routes.predict, call, model)
    return reply.status, json.loads(reply.body)


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


def test_rows_by_name_are_answered_by_rows_of_names(routes):
    rows = [{"a": [1, 2], "b": 10}, {"b": 20, "a:0": [3, 4.5]}]
    assert predict(routes, "sums", {"signature_name": "any", "instances": rows}) == (
        200,
        {"predictions": [{"sum": [11, 12], "first": 1}, {"sum": [23, 24.5], "first": 3}]},
    )


def test_columns_by_name_are_answered_by_columns(routes):
    status, found = predict(routes, "sums", {"inputs": {"a": [[1, 2], [3, 4]], "b": [10, 20]}})
    assert (status, found) == (200, {"outputs": {"sum": [[11, 12], [23, 24]], "first": [1, 3]}})


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        ({"instances": [[1, 2], [3, 4]]}, {"predictions": [[2, 4], [6, 8]]}),
        ({"instances": [{"picture": [1, 2]}]}, {"predictions": [[2, 4]]}),
        ({"inputs": [[1, 2]]}, {"outputs": [[2, 4]]}),
        ({"inputs": {"picture": [[1, 2]]}}, {"outputs": [[2, 4]]}),
        ({"instances": [b64(b"123"), b64(b"12345")]}, {"predictions": [[3], [5]]}),
        ({"instances": [{"picture": b64(b"123")}]}, {"predictions": [[3]]}),
        ({"inputs": b64(b"1234")}, {"outputs": [[4]]}),
        ({"inputs": [b64(b"1"), b64(b"22")]}, {"outputs": [[1], [2]]}),
        ({"inputs": {"picture": b64(b"1")}}, {"outputs": [[1]]}),
        ({"inputs": {"picture": [b64(b"1")]}}, {"outputs": [[1]]}),
    ],
)
def test_one_input_and_one_output_need_no_names(routes, sent, found):
    assert predict(routes, "lengths", sent) == (200, found)


@pytest.mark.parametrize(
    ("model", "sent", "words"),
    [
        ("lengths", b"{", "not JSON"),
        ("lengths", [], "either"),
        ("lengths", {}, "either"),
        ("lengths", {"instances": [[1, 2]], "inputs": [[1, 2]]}, "either"),
        ("lengths", {"instances": []}, "at least one"),
        ("lengths", {"instances": "x"}, "at least one"),
        ("lengths", {"instances": [[1, 2], [1]]}, "differ in length"),
        ("lengths", {"instances": [[1, 256]]}, "fit"),
        ("lengths", {"instances": [[1, 0.5]]}, "numbers"),
        ("lengths", {"instances": ["text"]}, "numbers"),
        ("lengths", {"instances": [None]}, "numbers"),
        ("lengths", {"instances": [{"nothing": 1}]}, "there is no input 'nothing'"),
        ("lengths", {"instances": [{"picture": [1, 2]}, [1, 2]]}, "either all"),
        ("lengths", {"instances": [b64(b"1"), [1, 2]]}, "may not stand among"),
        ("lengths", {"instances": [{"b64": "%"}]}, "not base64"),
        ("lengths", {"instances": [{"b64": "é"}]}, "not base64"),
        ("lengths", {"instances": [{"b64": 3}]}, "TEXT"),
        ("sums", {"instances": [[1, 2]]}, "by input name: a, b"),
        ("sums", {"inputs": [[1, 2]]}, "by input name: a, b"),
        ("sums", {"instances": [{"a": [1, 2]}]}, "instance 0 does not have all"),
        ("sums", {"inputs": {"b": [1]}}, "does not have all"),
        ("sums", {"inputs": {"a": b64(b"1"), "b": [1]}}, "numbers"),
    ],
)
def test_what_is_neither_is_400_and_says_why(routes, model, sent, words):
    status, found = predict(routes, model, sent)
    assert status == 400
    assert words in found["error"]


def test_an_unknown_model_is_404(routes):
    assert predict(routes, "nothing", {"instances": [1]}) == (404, {"error": "no nothing None"})


def test_status_of_every_version_newest_first(routes):
    call = Call("GET", "/")
    ok = {"error_code": "OK", "error_message": ""}
    versions = [
        {"version": "4", "state": "LOADING", "status": ok},
        {
            "version": "3",
            "state": "END",
            "status": {"error_code": "UNKNOWN", "error_message": "no layer Foo"},
        },
        {"version": "2", "state": "AVAILABLE", "status": ok},
    ]
    found = {"name": "sums", "ready": True, "model_version_status": versions}
    assert json.loads(routes.status(call, "sums").body) == found
    assert json.loads(routes.status(call, "sums", "0").body) == found  # TensorFlow's clients send it for none
    one = {"name": "sums", "ready": False, "model_version_status": versions[:1]}
    assert json.loads(routes.status(call, "sums", "4").body) == one
    assert json.loads(routes.status(call, "sums", "2").body)["model_version_status"] == versions[2:]
    lengths = {"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": ok}]}
    assert json.loads(routes.config(call).body) == {
        "lengths": lengths,
        "sums": {"model_version_status": versions},
    }
    assert json.loads(routes.list_models(call).body) == {"models": ["lengths", "sums"]}


def test_metadata_is_a_signature(routes):
    found = json.loads(routes.metadata(Call("GET", "/"), "sums", "2").body)
    assert found["model_spec"] == {"name": "sums", "signature_name": "", "version": "3"}
    signature = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["a"] == {
        "dtype": "DT_FLOAT",
        "tensor_shape": {
            "dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}],
            "unknown_rank": False,
        },
        "name": "a",
    }
    assert signature["inputs"]["b"]["dtype"] == "DT_UINT8"
    assert set(signature["outputs"]) == {"sum", "first"}
