"""What the access log adds to a request is measured, and the docs say it."""

from __future__ import annotations

import json
import re
import subprocess
import sys

from tests.conftest import ROOT


def test_the_command_writes_what_a_line_took(tmp_path):
    out = tmp_path / "access-log.json"
    subprocess.run(
        [sys.executable, "-m", "benchmarks.access_log", "--quick", "--out", str(out)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    found = json.loads(out.read_text())
    assert found["rounds"] == 3
    for style in ("text", "json"):
        assert found[f"{style}_us"] > 0
        assert found[f"{style}_share"] == round(found[f"{style}_us"] / found["request_us"], 4)


def test_the_docs_have_the_figures_of_the_file():
    found = json.loads((ROOT / "docs" / "results" / "access-log.json").read_text())
    said = re.search(
        r"takes ([\d.]+) us of CPU time as text and ([\d.]+) us as JSON, (\d+) and (\d+) % of the\s+(\d+) us",
        (ROOT / "docs" / "serving.md").read_text(),
    )
    times = [f"{found[name]:.1f}" for name in ("text_us", "json_us")]
    shares = [f"{100 * found[name]:.0f}" for name in ("text_share", "json_share")]
    assert list(said.groups()) == [*times, *shares, f"{found['request_us']:.0f}"]
