"""Shares of the CPU time: they are all of it."""

import pytest

from tests.benchmarks.running import run
from tests.conftest import ROOT


def test_a_small_run(tmp_path):
    found = run("shares", tmp_path / "shares.json", "--seconds", "1", "--images", str(ROOT / "docs"))
    row = found["rows"]["docs"]
    assert sum(row["shares"].values()) == pytest.approx(1, abs=0.02)
    assert row["requests"] > 0
    assert row["cpu_ms"] > 0
    assert row["stages_ms"]["infer"] > 0
