"""Tails: the ratios are those of the latencies beside them."""

import pytest

from tests.bench.running import run


def test_a_small_run(tmp_path):
    found = run("tails", tmp_path / "tails.json", "--seconds", "0.3", "--rounds", "1", "--connections", "4")
    (one,) = found["rounds"]
    assert one["errors"] == {}
    assert one["p99_to_p50"] == pytest.approx(one["p99_ms"] / one["p50_ms"])
    assert one["rate_p99_to_service"] == pytest.approx(one["rate_p99_ms"] / one["service_ms"])
    assert one["rate_per_s"] == pytest.approx(0.7 * one["capacity_per_s"])
    assert found["medians"].keys() == one.keys() - {"errors"}
