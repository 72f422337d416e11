"""The result cache over HTTP: seen in the statistics, told apart by what is asked, gone after a reload."""

from __future__ import annotations

import json
import os
import re
import shutil

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.servers import serving

SEVEN = (ROOT / "docs" / "seven.png").read_bytes()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cached")
    shutil.copytree(ROOT / "ir_models" / "digits", folder / "digits")
    return folder


@pytest.fixture(scope="module")
def server(root, tmp_path_factory):
    log = tmp_path_factory.mktemp("cached-log") / "log"
    arguments = ("--model-repository", str(root), "--workers", "1", "--result-cache-bytes", "1000000")
    with serving(
        log, *arguments, "--file-system-poll-wait-seconds", "0", "--max-queue-delay-us", "100"
    ) as found:
        yield found


def seen(server):
    (stats,) = server.get("/v2/models/digits/stats").json()["model_stats"]
    words = stats["inference_stats"]
    hits, misses = words["cache_hit"], words["cache_miss"]
    assert (hits["ns"] > 0) == (hits["count"] > 0)
    return hits["count"], misses["count"], stats["execution_count"]


def metric(server, name):
    text = server.get("/metrics").body.decode()
    return int(re.search(rf'^{name}{{name="digits",version="1"}} (\d+)$', text, re.MULTILINE)[1])


def ask(server, query="", body=SEVEN, **headers):
    before = seen(server)
    answer = server.post(f"/predictions/digits{query}", body, **headers)
    now = seen(server)
    return answer, now[0] - before[0], now[1] - before[1], now[2] - before[2]


def test_pictures(server):
    first, *changes = ask(server)
    assert changes == [0, 1, 1]
    again, *changes = ask(server)
    assert changes == [1, 0, 0]
    assert again.json() == first.json()
    assert "total;dur=" in again.headers["Server-Timing"]
    assert ask(server, "?topk=2")[1:] == (0, 1, 1)
    drawn, *changes = ask(server, Accept="image/png")
    assert changes == [0, 1, 1]
    assert drawn.headers["Content-Type"] == "image/png"
    same, *changes = ask(server, Accept="image/png")
    assert changes == [1, 0, 0]
    assert same.body == drawn.body
    assert metric(server, "cpuserve_cache_hits_total") == seen(server)[0]
    assert metric(server, "cpuserve_cache_misses_total") == seen(server)[1]


def test_a_form_with_the_same_picture_has_the_same_answer(server):
    ask(server)
    form = b"--x\r\nContent-Disposition: form-data; name=a; filename=b\r\n\r\n" + SEVEN + b"\r\n--x--\r\n"
    answer, *changes = ask(server, body=form, **{"Content-Type": "multipart/form-data; boundary=x"})
    assert changes == [1, 0, 0]
    assert answer.json()["predictions"][0]["label"] == "7"


def test_refusals_are_computed_again(server):
    for _ in range(2):
        answer, hits, _, _ = ask(server, body=b"no picture")
        assert (answer.status, hits) == (415, 0)
        answer, hits, _, _ = ask(server, "?topk=0")
        assert (answer.status, hits) == (400, 0)


def test_tensors(server):
    (tensor,) = server.get("/v2/models/digits").json()["inputs"]
    shape = [1, *tensor["shape"][1:]]

    def infer(value, request_id):
        data = np.zeros(shape, np.float32)
        data[:, 20:70, 40:60] = value
        entry = {"name": tensor["name"], "shape": shape, "datatype": "FP32"}
        head = json.dumps(
            {"id": request_id, "inputs": [{**entry, "parameters": {"binary_data_size": data.nbytes}}]}
        ).encode()
        before = seen(server)
        answer = server.post(
            "/v2/models/digits/infer",
            head + data.tobytes(),
            **{"Inference-Header-Content-Length": str(len(head))},
        )
        assert answer.status == 200
        return answer.json(), seen(server)[0] - before[0]

    first, hits = infer(0, "a")
    assert hits == 0
    again, hits = infer(0, "b")  # the same tensor in another request
    assert hits == 1
    assert again["id"] == "b"
    assert again["outputs"] == first["outputs"]
    other, hits = infer(200, "b")
    assert hits == 0
    assert other["outputs"] != first["outputs"]


def test_a_reload_forgets(server, root):
    ask(server)
    assert ask(server)[1] == 1
    file = next((root / "digits").glob("*/*.xml"))
    os.utime(file, (1, 1))  # another file, for all that can be seen
    assert server.post("/v1/config/reload", b"").status == 201
    assert ask(server)[1:] == (0, 1, 1)
    assert ask(server)[1] == 1


def test_the_configuration_tells_the_queue_delay(server):
    batching = server.get("/v2/models/digits/config").json()["dynamic_batching"]
    assert batching["max_queue_delay_microseconds"] == 100


def test_the_configuration_tells_the_properties_in_force(server):
    parameters = server.get("/v2/models/digits/config").json()["parameters"]
    found = {name: value["string_value"] for name, value in parameters.items()}
    assert len(found.pop("sha256")) == 64
    assert int(found["NUM_STREAMS"]) >= 1
    assert found["INFERENCE_PRECISION_HINT"] in {"f32", "bf16", "f16"}
    assert found["precision_reason"]
