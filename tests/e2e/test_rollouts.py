"""Two versions of the digits, the second wrong by purpose: labels, canaries, shadows over HTTP and gRPC."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
from collections import Counter

import grpc
import numpy as np
import pytest
from click.testing import CliRunner
from tritonclient import grpc as triton
from tritonclient import http as triton_http
from tritonclient.utils import InferenceServerException

from cpuserve.cli import cli
from cpuserve.grpc.messages import message_class
from tests.conftest import ROOT
from tests.servers import free_port, serving
from tests.wrong_digits import good_digits, wrong_digits

SEVEN = (ROOT / "docs" / "seven.png").read_bytes()
LABELS = {"version_labels": {"stable": 1, "next": 2}}
WAIT_S = 30
PREDICT = "tensorflow.serving.PredictionService/Predict"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "digits"
    good_digits(folder / "1")
    wrong_digits(folder / "2")
    (folder / "rollout.json").write_text(json.dumps(LABELS))
    return folder


@pytest.fixture(scope="module")
def served(home, tmp_path_factory):
    port = free_port()
    words = ("--model-repository", str(home.parent), "--workers", "2", "--grpc-port", str(port))
    log = tmp_path_factory.mktemp("rollouts") / "log"
    with serving(log, *words, "--file-system-poll-wait-seconds", "0.2", ready=2) as server:
        server.grpc_port = port
        yield server
        assert "Traceback" not in server.text()


@pytest.fixture(scope="module")
def over_grpc(served):
    client = triton.InferenceServerClient(f"127.0.0.1:{served.grpc_port}")
    yield client
    client.close()


@pytest.fixture
def rollout(served, home):
    def declare(**keys):
        (home / "rollout.json").write_text(json.dumps({**LABELS, **keys}))
        assert served.post("/v1/config/reload", b"").status in (200, 201)

    yield declare
    declare()


def best(answer):
    return answer.json()["predictions"][0]["label"]


def infer(client, module, version="", headers=None):
    sent = module.InferInput("image", [1], "BYTES")
    sent.set_data_from_numpy(np.array([SEVEN], object))
    found = client.infer("digits", [sent], model_version=version, headers=headers)
    response = found.get_response()
    version = response["model_version"] if isinstance(response, dict) else response.model_version
    return int(found.as_numpy("probabilities").argmax()), version


def predict_message(**spec):
    message = message_class("tensorflow.serving.PredictRequest")()
    message.model_spec.name = "digits"
    for name, value in spec.items():
        setattr(message.model_spec, name, value)
    tensor = message.inputs["image"]
    tensor.dtype = 7
    tensor.string_val.append(SEVEN)
    return message


def test_labels_stand_for_versions_in_every_address(served, over_grpc):
    body = json.dumps({"instances": [{"b64": base64.b64encode(SEVEN).decode()}]}).encode()
    for label, digit in (("stable", 7), ("next", 8)):
        found = served.post(f"/v1/models/digits/labels/{label}:predict", body)
        assert np.argmax(found.json()["predictions"][0]) == digit
        assert best(served.post(f"/predictions/digits/{label}", SEVEN)) == str(digit)
        version = {"stable": "1", "next": "2"}[label]
        status = served.get(f"/v1/models/digits/labels/{label}").json()["model_version_status"]
        assert [(one["version"], one["state"]) for one in status] == [(version, "AVAILABLE")]
        metadata = served.get(f"/v1/models/digits/labels/{label}/metadata").json()
        assert metadata["model_spec"]["version"] == version
        http = triton_http.InferenceServerClient(f"127.0.0.1:{served.port}")
        assert infer(http, triton_http, label) == infer(over_grpc, triton, label) == (digit, version)
        http.close()
    for path in ("labels/none", "labels/1", "labels/none/metadata"):
        got = served.get(f"/v1/models/digits/{path}")
        assert got.status == 404, path
        assert "the labels are: next (version 2), stable (version 1)" in got.json()["error"]
    assert served.post("/v1/models/digits/labels/none:predict", body).status == 404


def test_labels_over_tensorflow_serving_s_grpc(served):
    reply = message_class("tensorflow.serving.PredictResponse")
    with grpc.insecure_channel(f"127.0.0.1:{served.grpc_port}") as channel:
        call = channel.unary_unary(
            f"/{PREDICT}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=reply.FromString,
        )
        for label, version, digit in (("stable", 1, 7), ("next", 2, 8)):
            found = call(predict_message(version_label=label), timeout=WAIT_S)
            assert found.model_spec.version.value == version
            values = np.frombuffer(found.outputs["probabilities"].tensor_content, np.float32)
            assert values.argmax() == digit
        with pytest.raises(grpc.RpcError) as caught:
            call(predict_message(version_label="none"), timeout=WAIT_S)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_canary_gets_its_share_over_both_and_answers_tell_the_version(served, over_grpc, rollout):
    rollout(canary={"label": "next", "share": 0.5, "header": "X-User"})
    over_http = Counter(
        (best(answer), answer.json()["version"])
        for answer in (served.post("/predictions/digits", SEVEN) for _ in range(60))
    )
    assert set(over_http) == {("7", "1"), ("8", "2")}
    assert 10 < over_http["8", "2"] < 50
    assert {infer(over_grpc, triton) for _ in range(40)} == {(7, "1"), (8, "2")}
    users = [f"user {number}" for number in range(12)]
    by_http = {
        user: served.post("/predictions/digits", SEVEN, **{"X-User": user}).json()["version"]
        for user in users
    }
    by_grpc = {user: infer(over_grpc, triton, headers={"x-user": user})[1] for user in users}
    assert by_http == by_grpc
    assert {*by_http.values()} == {"1", "2"}
    metrics = served.get("/metrics").body.decode()
    assert 'cpuserve_canary_share{name="digits",version="2"} 0.5' in metrics
    assert 'interface="gRPC",method="ModelInfer",name="digits",version="2"' in metrics


def test_a_canary_that_is_not_there_leaves_all_to_the_stable_version_and_says_so(served, rollout):
    rollout(canary={"version": 9, "share": 1})
    assert {best(served.post("/predictions/digits", SEVEN)) for _ in range(20)} == {"7"}
    rows = served.post("/v2/repository/index", b"").json()
    (reason,) = [row["reason"] for row in rows if not row["version"]]
    assert reason == "canary: version 9 is not in the repository; version 1 answers all"
    assert served.get("/v2/health/ready").status == 200
    assert 'cpuserve_canary_share{name="digits",version="9"} 0' in served.get("/metrics").body.decode()


def test_a_load_changes_it_in_every_worker(served):
    client = triton_http.InferenceServerClient(f"127.0.0.1:{served.port}")
    client.load_model("digits", config='{"canary": {"label": "next", "share": 0}}')
    assert {best(served.post("/predictions/digits", SEVEN)) for _ in range(30)} == {"7"}
    config = client.get_model_config("digits")["parameters"]
    assert json.loads(config["canary"]["string_value"]) == {"version": 2, "share": 0.0}
    client.load_model("digits", config='{"canary": {"label": "next", "share": 1}}')
    assert {best(served.post("/predictions/digits", SEVEN)) for _ in range(30)} == {"8"}
    with pytest.raises(InferenceServerException, match="the share of canary is a number from 0 to 1"):
        client.load_model("digits", config='{"canary": {"label": "next", "share": 2}}')
    client.load_model("digits")
    assert "canary" not in client.get_model_config("digits")["parameters"]
    client.close()


def report(served):
    return served.get("/v2/models/digits/shadow").json()


def test_a_shadow_is_compared_over_both_and_clients_never_see_it(served, over_grpc, rollout):
    assert served.get("/v2/models/digits/shadow").status == 404
    rollout(shadow={"label": "next", "share": 1})
    for _ in range(6):
        assert best(served.post("/predictions/digits", SEVEN)) == "7"
        assert infer(over_grpc, triton) == (7, "1")
    served.wait_until(lambda: report(served)["requests"]["compared"] >= 12, "compared")
    found = report(served)
    assert found["requests"] == {"compared": 12, "silent": 0, "failed": 0, "shed": 0}
    assert found["compares"] == "classes"
    assert found["agreement"] < 0.05
    assert found["answers"] == {"answers": 12, "missed": 12, "invented": 0}
    for role, version in (("stable", "1"), ("candidate", "2")):
        assert found[role]["version"] == version
        assert found[role]["infer_ms"] > 0
        assert found[role]["cpu_ms"] > 0
    metrics = served.get("/metrics").body.decode()
    assert 'cpuserve_shadow_requests_total{name="digits",version="2",result="compared"} 12' in metrics
    assert 'cpuserve_shadow_cpu_seconds_total{name="digits",version="2",role="candidate"} 0.' in metrics
    url = f"http://127.0.0.1:{served.port}"
    done = CliRunner().invoke(cli, ["shadow", "digits", "--url", url])
    assert "digits: classes agree by 0.0" in done.output
    assert "12 requests with 12 answers, 12 of them missed" in done.output
    assert json.loads(CliRunner().invoke(cli, ["shadow", "digits", "--url", url, "--json"]).output) == report(
        served
    )
    rollout(shadow={"label": "next", "share": 0})
    assert best(served.post("/predictions/digits", SEVEN)) == "7"
    assert report(served)["requests"]["compared"] == 12  # another share keeps the evidence
    refused = CliRunner().invoke(cli, ["shadow", "none", "--url", url])
    assert "there is no model" in str(refused.exception)


def test_what_was_compared_outlives_a_killed_worker_and_new_files_begin_anew(served, home, rollout):
    rollout(shadow={"version": 2, "share": 1})
    for _ in range(8):
        served.post("/predictions/digits", SEVEN)
    served.wait_until(lambda: report(served)["requests"]["compared"] >= 8, "compared")
    before, workers = report(served)["requests"]["compared"], served.workers()
    os.kill(workers[0], signal.SIGKILL)
    served.settle(2, gone=workers[:1])
    assert report(served)["requests"]["compared"] >= before
    for _ in range(10):
        assert best(served.post("/predictions/digits", SEVEN)) == "7"
    served.wait_until(
        lambda: report(served)["requests"]["compared"] >= before + 10, "compared by the new worker"
    )
    shutil.rmtree(home / "2")
    good_digits(home / ".2").rename(home / "2")
    assert served.post("/v1/config/reload", b"").status in (200, 201)
    served.wait_until(lambda: report(served)["requests"]["compared"] == 0, "begun anew")
    for _ in range(5):
        assert best(served.post("/predictions/digits", SEVEN)) == "7"
    served.wait_until(lambda: report(served)["requests"]["compared"] == 5, "compared")
    assert report(served)["agreement"] == 1
    shutil.rmtree(home / "2")
    wrong_digits(home / ".2").rename(home / "2")


def test_a_version_that_answers_its_warm_up_wrongly_is_refused_and_the_reason_is_told(
    served, over_grpc, home
):
    beside = wrong_digits(home / ".3")
    (beside / "warmup").mkdir()
    (beside / "warmup" / "seven.png").write_bytes(SEVEN)
    answer = served.post("/predictions/digits/1", SEVEN).body
    (beside / "warmup" / "seven.expected.json").write_bytes(answer)
    before = served.post("/predictions/digits", SEVEN).json()["version"]
    beside.rename(home / "3")
    try:
        assert served.post("/v1/config/reload", b"").status in (200, 201)
        assert served.post("/predictions/digits", SEVEN).json()["version"] == before == "2"
        assert infer(over_grpc, triton) == (8, "2")
        (row,) = [row for row in served.post("/v2/repository/index", b"").json() if row["version"] == "3"]
        assert row["state"] == "UNAVAILABLE"
        assert "digits/3/warmup/seven.png: its answer agrees by 0.0" in row["reason"]
        assert str(home) not in row["reason"]
        (status,) = served.get("/v1/models/digits/versions/3").json()["model_version_status"]
        assert row["reason"] == status["status"]["error_message"]
        metrics = served.get("/metrics").body.decode()
        assert 'cpuserve_model_state{name="digits",version="3",state="UNAVAILABLE",reason="' in metrics
        assert served.post("/predictions/digits/3", SEVEN).status == 503
        (home / "3" / "warmup" / "seven.expected.json").write_bytes(
            served.post("/predictions/digits/next", SEVEN).body
        )
        served.post("/v1/config/reload", b"")
        served.wait_until(lambda: served.post("/predictions/digits/3", SEVEN).status == 200, "served")
    finally:
        shutil.rmtree(home / "3")
        served.post("/v1/config/reload", b"")
