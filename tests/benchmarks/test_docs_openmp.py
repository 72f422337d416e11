"""The table of OpenMP verdicts in docs/tune.md is that of the result file."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def table(verdicts):
    lines = ["| process | environment | verdict | what was read back |", "|---|---|---|---|"]
    for one in verdicts:
        lines.append(f"| {one['process']} | `{one['environment']}` | {one['words']} | {one['why']} |")
    return "\n".join(lines)


def test_the_table_is_the_result_files():
    text = (ROOT / "docs" / "tune.md").read_text()
    found = json.loads((ROOT / "docs" / "results" / "openmp.json").read_text())
    (shown,) = re.findall(r"<!-- openmp verdicts -->\n(.*?)\n<!-- end -->", text, re.DOTALL)
    assert shown == table(found["verdicts"])


def test_the_result_file_says_what_the_page_does():
    found = json.loads((ROOT / "docs" / "results" / "openmp.json").read_text())
    by_process = {}
    for one in found["verdicts"]:
        by_process.setdefault(one["process"], []).append(one)
    assert all(one["words"] == "no effect, TBB build" for one in by_process["OpenVINO"])
    intel = {one["environment"].split("=")[0]: one for one in by_process["PyTorch head, libiomp5"]}
    assert "affinity shrank to 1 CPU" in intel["KMP_AFFINITY"]["why"]
