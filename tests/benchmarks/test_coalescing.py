"""Largest batch and queue delay: each pair is a server of its own, and batches fill where rows may wait."""

from tests.benchmarks.running import run


def test_rows_that_may_wait_leave_together(tmp_path):
    words = ("--batches", "4", "--delays-us", "500000", "--connections", "4", "--rate", "20")
    found = run("coalescing", tmp_path / "coalescing.json", *words, "--seconds", "0.6")
    closed, opened = found["rows"]
    assert (closed["max_batch"], closed["max_queue_delay_us"], closed["connections"]) == (4, 500_000, 4)
    assert closed["statuses"].keys() == opened["statuses"].keys() == {"200"}
    assert closed["rows_a_batch"] > 2
    assert closed["released"]["idle"] > 0
    assert opened["request_rate"] == 20
    assert opened["p99_ms"] >= opened["p50_ms"] > 0
