"""Tracing of a running server: one request by its header, all of them by the switch, in every worker."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT
from tests.servers import serving

SEVEN = (ROOT / "docs" / "seven.png").read_bytes()
STAGES = ["queue", "serialise", "decode", "resize", "batch_wait", "infer", "batch_wait", "post", "serialise"]


@pytest.fixture(scope="module")
def server(digits, tmp_path_factory):
    log = tmp_path_factory.mktemp("trace") / "log"
    with serving(log, "--model-repository", str(digits), "--workers", "2", ready=2) as server:
        yield server


def test_one_request_by_its_header(server):
    answer = server.post("/predictions/digits", SEVEN, **{"X-Cpuserve-Trace": "1"})
    assert answer.status == 200
    words = [word.partition(";")[0] for word in answer.headers["Server-Timing"].split(", ")]
    assert words == ["queue", "decode", "resize", "batch_wait", "infer", "post", "serialise"]
    name = answer.headers["X-Cpuserve-Trace"]
    trace = server.get(f"/v2/trace/requests/{name}").json()
    assert (trace["id"], trace["status"]) == (name, 200)
    assert [stage for stage, _, _ in trace["stages"]] == STAGES
    ends = [trace["arrived_ns"], *(end for _, _, end in trace["stages"])]
    assert [begin for _, begin, _ in trace["stages"]] == ends[:-1]  # no gap
    assert ends == sorted(ends)
    assert ends[-1] == trace["ended_ns"]


def test_a_request_without_it_leaves_no_trace(server):
    before = server.get("/v2/trace/requests").json()
    answer = server.post("/predictions/digits", SEVEN)
    assert "X-Cpuserve-Trace" not in answer.headers
    assert server.get("/v2/trace/requests").json() == before


def test_the_switch_is_every_workers(server):
    assert server.post("/v2/trace/setting", b'{"trace_level": ["TIMESTAMPS"]}').status == 200
    try:
        tensor = b'{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["x"]}]}'
        seen = set()
        for _ in range(200):
            server.post("/predictions/digits", SEVEN)
            server.post("/v2/models/digits/infer", tensor)
            found = server.get("/v2/trace/requests").json()["requests"]
            seen = {trace["pid"] for trace in found if "infer" in [stage for stage, _, _ in trace["stages"]]}
            if seen == set(server.workers()):
                break
        assert seen == set(server.workers())
        assert server.get("/v2/trace/setting").json()["trace_level"] == ["TIMESTAMPS"]
    finally:
        assert server.post("/v2/trace/setting", b'{"trace_level": ["OFF"]}').json()["trace_level"] == ["OFF"]


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b'{"trace_level": ["TENSORS"]}',
        b'{"trace_level": "OFF"}',
        b'{"trace_level": []}',
        b'{"trace_level": [["OFF"]]}',
        b'{"stack_rate": 201}',
        b'{"stack_rate": true}',
        b'{"trace_file": "/tmp/x"}',
        b'{"colour": 1}',
    ],
)
def test_what_cannot_be_set_is_refused_and_nothing_changes(server, body):
    before = server.get("/v2/trace/setting").json()
    assert server.post("/v2/trace/setting", body).status == 400
    assert server.get("/v2/trace/setting").json() == before


def test_a_trace_that_is_not_there_is_404(server):
    answer = server.get("/v2/trace/requests/0-0")
    assert answer.status == 404
    assert "X-Cpuserve-Trace: 1" in answer.json()["error"]


def test_with_keys_only_who_has_one_may_trace(digits, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("secret\n")
    keys.chmod(0o600)
    arguments = ("--model-repository", str(digits), "--workers", "1", "--api-key-file", str(keys))
    with serving(tmp_path / "log", *arguments) as server:
        refused = server.post("/predictions/digits", SEVEN, **{"X-Cpuserve-Trace": "1"})
        assert refused.status == 401
        assert "Server-Timing" not in refused.headers
        for path in ("/v2/trace/setting", "/v2/trace/requests", "/v2/trace/requests/0-0"):
            assert server.get(path).status == 401
        assert server.post("/v2/trace/setting", b'{"trace_level": ["TIMESTAMPS"]}').status == 401
        key = {"X-API-Key": "secret", "X-Cpuserve-Trace": "1"}
        allowed = server.post("/predictions/digits", SEVEN, **key)
        assert allowed.headers["X-Cpuserve-Trace"].rpartition("-")[2].isdecimal()
