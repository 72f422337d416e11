"""The check of the planner of replicas on a small model: its figures fit together, and no frame is lost."""

from __future__ import annotations

import os

import pytest

from tests.benchmarks.running import run
from tests.conftest import ROOT


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two replicas have a CPU each")
def test_two_replicas_are_predicted_measured_and_one_killed(data_dir, tmp_path):
    clip = data_dir / "video" / "car-detection.mp4"
    words = ["--model", "digits", "--model-repository", str(ROOT / "ir_models"), "--clip", str(clip)]
    found = run("video_replicas", tmp_path / "out.json", *words, "--frames", "60", "--rounds", "1")
    assert [row["replicas"] for row in found["runs"]] == [1, 2]
    for row in found["runs"]:
        assert 0 < row["predicted_s"] <= 1.001 * row["formula_s"]  # which does not overlap
        assert row["client_ms"] > 0
        assert row["measured_s"] == row["seconds"][0]
        assert row["error"] == pytest.approx(row["predicted_s"] / row["measured_s"] - 1)
    killed = found["killed"]
    assert (killed["frames"], killed["lost"], killed["different"]) == (60, 0, 0)
    assert killed["by_the_survivor"] + killed["by_the_killed_one"] == 60
    assert killed["failed_requests"] > 0
