"""The Open Inference Protocol's routes over fake models: health, metadata, infer, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cpuserve.protocols.v2 import V2
from tests.protocols.fakes import Pipeline, Pool, ask

A = {"name": "a:0", "datatype": "FP32", "shape": [2, 3], "data": [[1, 2, 3], [4, 5, 6]]}
B = {"name": "b", "datatype": "UINT8", "shape": [2, 3], "data": [[1, 1, 1], [2, 2, 2]]}
PICTURE = {"name": "a", "datatype": "BYTES", "shape": [1], "data": ["QQ=="]}


@pytest.fixture
def pool():
    return Pool()


@pytest.fixture
def v2(pool):
    return V2(pool)


def infer(v2, body, **headers):
    return ask(v2.infer, "m", body=body, **headers)


def test_health_names_what_is_missing(v2, pool):
    assert ask(v2.live)[2] == {"live": True}
    assert ask(v2.ready) == (
        *(200, {"Content-Type": "application/json"}),
        {"ready": True, "models": {"late": "loading"}},
    )
    pool.ready = False
    status, headers, found = ask(v2.ready)
    assert (status, headers["Retry-After"]) == (503, "1")
    assert found == {"ready": False, "models": {"late": "loading"}}


@pytest.mark.parametrize(
    ("name", "words"), [("stopping", "is stopping"), ("dead", "no longer"), ("stuck", "hangs")]
)
def test_health_says_why_the_whole_server_is_not_ready(v2, pool, name, words):
    pool.ready = False
    setattr(pool, name, True)
    status, _, found = ask(v2.ready)
    assert status == 503
    assert words in found["reason"]


def test_without_a_model_it_is_not_ready(v2, pool):
    pool.ready, pool.models = False, {}
    assert ask(v2.ready)[2] == {"ready": False, "reason": "no model is served"}


def test_metadata_and_config_tell_the_ports(v2):
    found = ask(v2.metadata, "m")[2]
    assert (found["name"], found["versions"], found["platform"]) == ("m", ["2"], "OpenVINO")
    assert found["inputs"][0] == {"name": "a", "datatype": "FP32", "shape": [-1, 3]}
    assert found["outputs"][1] == {"name": "first", "datatype": "FP32", "shape": [-1, 3]}
    found = ask(v2.config, "m")[2]
    assert found["version_policy"] == {"specific": {"versions": [2, 3]}}
    assert found["max_batch_size"] == 4
    assert found["input"][1]["data_type"] == "TYPE_UINT8"
    assert found["instance_group"] == [{"name": "m_0", "kind": "KIND_CPU", "count": 2}]
    assert found["dynamic_batching"] == {"preferred_batch_size": [1, 4], "max_queue_delay_microseconds": 1}


@pytest.mark.parametrize("route", ["model_ready", "metadata", "config", "infer"])
@pytest.mark.parametrize(("model", "version", "status"), [("n", None, 404), ("m", "7", 404), ("m", "3", 503)])
def test_models_that_are_not_there_or_not_ready(v2, route, model, version, status):
    assert ask(getattr(v2, route), model, *([version] if version else []))[0] == status


def test_tensors_in_any_order_are_answered_with_all_outputs(v2):
    status, headers, found = infer(v2, {"id": "x", "inputs": [B, A]})
    assert status == 200
    assert "infer;dur=" in headers["Server-Timing"]
    assert (found["model_name"], found["model_version"], found["id"]) == ("m", "2", "x")
    assert [output["name"] for output in found["outputs"]] == ["sum", "first"]
    assert found["outputs"][0]["data"] == [2, 3, 4, 6, 7, 8]


def test_outputs_come_as_they_are_asked_for(v2):
    asked = [
        {"name": "first", "parameters": {"binary_data": True}},
        {"name": "sum", "parameters": {"classification": 1}},
    ]
    status, headers, body = infer(v2, {"inputs": [A, B], "outputs": asked})
    assert (status, headers["Content-Type"]) == (200, "application/octet-stream")
    length = int(headers["Inference-Header-Content-Length"])
    first, best = json.loads(body[:length])["outputs"]
    assert first["parameters"] == {"binary_data_size": 24}
    assert np.frombuffer(body[length:], np.float32).tolist() == [1, 2, 3, 4, 5, 6]
    assert best["data"] == ["4.000000:2", "8.000000:2"]


def test_a_body_that_is_a_picture_is_answered_in_binary(v2):
    status, headers, body = infer(v2, b"picture", inference_header_content_length="0")
    assert status == 200
    outputs = json.loads(body[: int(headers["Inference-Header-Content-Length"])])["outputs"]
    assert [output["shape"] for output in outputs] == [[1, 3], [1, 3]]
    assert np.frombuffer(body[-24:], np.float32).tolist() == [7, 7, 7, -7, -7, -7]


def test_pictures_are_bytes_elements(v2):
    sent = {"name": "a", "datatype": "BYTES", "shape": [2], "data": ["QUJD", "QQ=="]}
    assert infer(v2, {"inputs": [sent]})[2]["outputs"][0]["data"] == [3, 3, 3, 1, 1, 1]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"inputs": [A]}, "needs the inputs b too"),
        ({"inputs": [A, A, B]}, "sent twice"),
        ({"inputs": [{**A, "name": "c"}, B]}, "no input 'c'; the model's are: a, b"),
        ({"inputs": [A, B], "outputs": [{"name": "c"}]}, "no output 'c'; the model's are: sum, first"),
        (
            {"inputs": [{**A, "datatype": "BYTES", "shape": [1, 1, 1], "data": ["QQ=="]}]},
            "shape [N] or [N, 1]",
        ),
        (
            {"inputs": [{**A, "datatype": "BYTES", "shape": [1, 2], "data": ["QQ==", "QQ=="]}]},
            "shape [N] or [N, 1], not [1, 2]",
        ),
        ({"inputs": [{**A, "datatype": "BYTES", "shape": [1025], "data": ["QQ=="]}]}, "may have 1024"),
        ({"inputs": [{**A, "data": [[1, 2, 3]]}, B]}, "takes 6 values"),
    ],
)
def test_what_does_not_fit_the_model_is_400(v2, document, words):
    status, _, found = infer(v2, document)
    assert status == 400
    assert words in found["error"]


@pytest.mark.parametrize("sent", [[A, B], [PICTURE]])
def test_nothing_is_computed_for_an_output_that_is_not_there(v2, monkeypatch, sent):
    monkeypatch.setattr(Pipeline, "infer", None)
    monkeypatch.setattr(Pipeline, "infer_pictures", None)
    status, _, found = infer(v2, {"inputs": sent, "outputs": [{"name": "c"}]})
    assert (status, "there is no output 'c'" in found["error"]) == (400, True)


def test_json_that_told_the_deadline_is_not_parsed_again(v2, monkeypatch):
    from cpuserve.protocols import call as module
    from cpuserve.protocols.urgency import urgency_of

    read, parsed = module.read_json, []
    monkeypatch.setattr(module, "read_json", lambda *given: parsed.append(1) or read(*given))
    body = json.dumps({"parameters": {"timeout": 500_000, "priority": 3}, "inputs": [A, B]}).encode()
    call = module.Call("POST", "/v2/models/m/infer", data=body)
    urgency = urgency_of(call, 10.0)
    assert (urgency.timeout_s, urgency.priority) == (0.5, 3)
    assert v2.infer(call, "m").status == 200
    assert len(parsed) == 1
