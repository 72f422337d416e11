"""The files of deploy/balancers: their programs take them, and they agree with the server's settings."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from benchmarks.balancer_programs import BALANCERS, Balancer, Ports
from benchmarks.balancers import SITUATIONS, markdown
from cpuserve.errors import CpuserveError
from cpuserve.settings import Settings
from tests.conftest import ROOT
from tests.deploy.manifests import DEPLOY

CHECKS = {"nginx": ("-t", "-q"), "haproxy": ("-c",), "envoy": ("--mode", "validate")}
SLIPS = {
    "nginx": ("least_conn", "least_con"),
    "haproxy": ("retry-on", "retry-om"),
    "envoy": ("selection_method", "selection_methot"),
}
PORTS = Ports((8001, 8002), (9001, 9002))


@pytest.fixture(params=BALANCERS, ids=[one.name for one in BALANCERS])
def balancer(request: pytest.FixtureRequest) -> Balancer:
    found: Balancer = request.param
    try:
        found.program()
    except CpuserveError as error:
        if os.environ.get("CI") and found.name == "envoy":  # a package of the tests
            pytest.fail(str(error))
        pytest.skip(str(error))
    return found


def test_its_program_takes_the_file_and_no_slip_in_it(balancer: Balancer, tmp_path: Path) -> None:
    file = tmp_path / balancer.file
    text = balancer.text(tmp_path, PORTS, (8080, 9080))
    right, wrong = SLIPS[balancer.name]
    for written, good in ((text, True), (text.replace(right, wrong), False)):
        file.write_text(written)
        command = [*balancer.words(balancer.program(), file), *CHECKS[balancer.name]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        said = done.stdout + done.stderr
        assert (done.returncode == 0) == good, said
        assert good or wrong in said


def test_the_files_agree_with_the_settings() -> None:
    settings = Settings()
    texts = {one.name: (DEPLOY / "balancers" / one.file).read_text() for one in BALANCERS}
    deadline_s = settings.deadline_ms / 1000
    for name, text in texts.items():
        waits = [
            float(found) for found in re.findall(r"(?:read_timeout|timeout server|timeout:) (\d+)s\b", text)
        ]
        assert any(deadline_s < wait < 2 * deadline_s for wait in waits), name
        idle = re.findall(r"(?:keepalive_timeout|http-keep-alive|idle_timeout:) (\d+)s", text)
        assert any(float(found) < settings.keep_alive_s for found in idle), name
        assert "/v2/health/ready" in text or name == "nginx"  # nginx without a subscription asks nobody
    assert f"client_max_body_size {settings.max_body_bytes};" in texts["nginx"]
    assert "FULL_SCAN" in texts["envoy"]


def test_the_page_shows_what_was_measured() -> None:
    kept = json.loads((ROOT / "docs" / "results" / "balancers.json").read_text())
    table = markdown(kept)
    assert table.count("\n") == 2 + 2 * len(BALANCERS)
    assert table in (ROOT / "docs" / "deploying.md").read_text(), "python -m benchmarks.balancers --show FILE"


def test_a_table_puts_rounds_together() -> None:
    rows = [
        {"balancer": "envoy", "protocol": "http", "situation": situation, "requests": 10, "errors": errors}
        | {"p99_ms": p99, "of_second": 0.5}
        for situation in SITUATIONS
        for errors, p99 in (({"503": 1}, 10.0), ({}, 20.0), ({"closed": 2}, 90.0))
    ]
    (line,) = markdown({"rows": rows}).splitlines()[2:]
    assert line == "| envoy, http | " + " | ".join(["3 of 30, 20 ms, 0.50"] * 3) + " |"
