"""LoadGen itself against a plain server: every scenario asks, is answered, and is not called MLPerf."""

import pytest

from cpuserve.bench.loadgen import parse_summary, run_scenario
from cpuserve.errors import CpuserveError
from cpuserve.measuring.load_window import Target
from tests.measuring.conftest import (
    Handler,
    plain,  # noqa: F401  # a fixture
)


@pytest.mark.parametrize("scenario", ["singlestream", "multistream", "server", "offline"])
def test_every_scenario(
    plain,  # noqa: F811
    tmp_path,
    monkeypatch,
    scenario,
):
    monkeypatch.setattr(Handler, "statuses", {b"bad": 503})
    files = []
    for name in ("good", "bad"):
        files.append(tmp_path / name)
        files[-1].write_bytes(name.encode())
    target = Target("127.0.0.1", plain.server_port, "/p")
    found = run_scenario(target, files, scenario, qps=100, latency_ms=50, seconds=0.3)
    assert "not an MLPerf result" in found["client"]
    assert found["result"] in {"VALID", "INVALID"}
    assert found["requests"] == len(Handler.seen) > 3
    assert found["errors"]["503"] > 0
    assert found["cpu_ms"] is None
    key = "Samples per second" if scenario == "offline" else "99.00 percentile latency (ns)"
    assert found["summary"][key] > 0


def test_a_run_without_a_verdict():
    with pytest.raises(CpuserveError, match="without a verdict"):
        parse_summary("nothing")
