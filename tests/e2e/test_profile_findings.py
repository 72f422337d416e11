"""Three bottlenecks provoked on real servers: `cpuserve profile` names each among its gravest findings."""

from __future__ import annotations

import json

import pytest

from benchmarks.findings import CASES, prepared, profiled
from cpuserve.machine.budget import Budget
from cpuserve.measuring.local_server import local_server
from cpuserve.profiling.page import PAGE
from cpuserve.profiling.perfetto import TRACE
from tests.conftest import ROOT

TRIES = 10  # of a second each: on a machine that others use the client may be held up for that long

pytestmark = pytest.mark.skipif(
    Budget.read().effective < 2, reason="a thread can be too few on two CPUs only"
)


@pytest.fixture(scope="module")
def place():
    with prepared(ROOT / "ir_models", ["looping"]) as folder:
        yield folder


@pytest.mark.parametrize("name", CASES)
def test_a_bottleneck_is_named(name, place, tmp_path):
    case = CASES[name]
    with local_server(case.model[0], {**case.before, "model_repository": place / "models"}, None) as server:
        case.provoke(server.pid)
        for _ in range(TRIES):
            told = profiled(server.pid, place / ("large" if case.large else "small"), 8, 1, tmp_path)
            grave = [finding for finding in told["findings"] if finding["severity"] == "high"]
            if case.rule in [finding["rule"] for finding in grave]:
                break
        else:
            raise AssertionError(f"{case.rule} is not among {told['findings']}")
    assert told["latency"]["server_share"] >= 0.95
    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert told["html"] == str(tmp_path / PAGE)
    assert "Threads, busy and waiting" in page
    assert json.loads((tmp_path / TRACE).read_text())["traceEvents"]
    if case.rule == "python-tail":
        assert any("slow_softmax.py" in finding["text"] for finding in grave)
