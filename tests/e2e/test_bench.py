"""`cpuserve bench serve` and `ceiling` on a real server that they start and stop themselves."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.fixture
def bench(digits, tmp_path):
    def call(*words):
        done = subprocess.run(
            [sys.executable, "-m", "cpuserve", "bench", *words, "--json", "--workers", "1"],
            cwd=ROOT,
            env={
                "CPUSERVE_MODEL_REPOSITORY": str(digits),
                "CPUSERVE_CHECK_MODELS_IN_CHILD": "false",  # it doubles the time of a start
                "PATH": "/usr/bin:/bin",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert not done.stderr, done.stderr
        return done.returncode, json.loads(done.stdout)

    return call


def test_a_model_under_both_loops(bench):
    words = ("--concurrency-range", "4", "--request-rate-range", "50", "--window-seconds", "0.5")
    code, found = bench("serve", "digits", *words, "--max-windows", "1", "--protocol", "v2")
    assert code == 3  # one window cannot be stable
    assert found["path"] == "/v2/models/digits/infer"
    closed, opened = found["loads"]
    assert closed["errors"] == opened["errors"] == {}
    assert closed["statuses"]["200"] > 0
    assert closed["cpu_ms"] > 0
    assert closed["server_cores"] > 0
    assert opened["statuses"]["200"] == pytest.approx(opened["offered_per_s"] * 0.5)
    assert 0 < opened["images_per_s"] <= opened["offered_per_s"]
    assert sum(closed["batches"]["released"].values()) >= closed["statuses"]["200"] / 8
    assert closed["rows_a_batch"] >= 1


def test_tensors_of_the_models_own_shape(bench):
    words = ("--concurrency-range", "2", "--window-seconds", "0.3", "--max-windows", "1")
    _, found = bench("serve", "digits", "--protocol", "tensors", "--batch", "3", *words)
    (load,) = found["loads"]
    assert load["errors"] == {}
    assert "FP32 [3, 96, 96, 3]" in found["sent"]
    sizes = load["batches"]["compiled_batches_by_size"]
    rows = sum(int(size) * count for size, count in sizes.items())
    assert rows >= 3 * load["statuses"]["200"]


def test_a_window_for_company_fills_batches(bench):
    words = ("--concurrency-range", "8", "--window-seconds", "0.5", "--max-windows", "1", "--threads", "8")
    _, found = bench("serve", "digits", *words, "--max-queue-delay-us", "500000")
    (load,) = found["loads"]
    assert load["errors"] == {}
    assert load["rows_a_batch"] > 4
    assert load["batches"]["released"]["idle"] > 0


def test_served_against_in_process(bench):
    code, found = bench("ceiling", "digits", "--rounds", "1", "--window-seconds", "0.3", "--concurrency", "4")
    assert code == 0
    assert found["served"]["errors"] == {}
    assert len(found["rounds"]) == 1
    assert found["cpu_ratio"]["median"] > 0
    assert found["in_process"]["images_per_s"]["median"] > 0


def test_a_model_that_is_not_there_is_named():
    words = ("bench", "serve", "nothing", "--model-repository", "ir_models", "--concurrency-range", "1")
    done = subprocess.run(
        [sys.executable, "-m", "cpuserve", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "no model 'nothing'" in done.stderr
