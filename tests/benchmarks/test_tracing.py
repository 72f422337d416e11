"""What tracing adds to a request is measured in three kinds of turns."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.conftest import ROOT


def test_the_command_writes_what_each_kind_took(tmp_path):
    out = tmp_path / "tracing.json"
    subprocess.run(
        [sys.executable, "-m", "benchmarks.tracing", "--rounds", "2", "--out", str(out)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    found = json.loads(out.read_text())
    assert all(found[name] > 0 for name in ("request_us", "off_us", "on_us"))
    assert found["off_share"] == round(found["off_us"] / found["request_us"], 5)
    assert found["command"] == "python -m benchmarks.tracing --rounds 2 --out tracing.json"
