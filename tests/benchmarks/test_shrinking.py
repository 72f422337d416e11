"""Shrinking: fewer bytes, the same class, and a line that takes the time it takes."""

import time

import pytest

from benchmarks.shrinking import _paced
from tests.benchmarks.running import run


def test_photos_are_sent_smaller_and_answered_alike(data_dir, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes((data_dir / "images" / "cat_1080p.jpg").read_bytes())
    words = ("--images", str(folder), "--mbit", "0", "1000", "--passes", "1")
    found = run("shrinking", tmp_path / "shrinking.json", *words)
    loopback, line = found["lines"]
    assert loopback["shrunk_kib"] < loopback["whole_kib"] / 4
    assert (loopback["mbit"], line["mbit"]) == (0, 1000)
    assert found["input"] == [96, 96]
    assert line["shrinking_ms"] < line["shrunk_ms"]
    assert line["requests"] == 1


def test_a_line_gives_out_no_more_than_its_speed(monkeypatch):
    now = 0.0

    def sleep(seconds):
        nonlocal now
        now += seconds

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    monkeypatch.setattr(time, "sleep", sleep)
    data = bytes(100_000)
    assert b"".join(_paced(data, 8)) == data
    assert now == pytest.approx(0.1)
