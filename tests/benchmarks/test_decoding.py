"""Decoding: sizes, differences, and a file that is no picture."""

import sys

import cv2
import numpy as np
import pytest

from benchmarks import decoding
from tests.benchmarks.running import run


def test_a_larger_jpeg_gains_more(tmp_path):
    file = tmp_path / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    cv2.imwrite(str(file), cv2.resize(noise, (800, 600)))
    found = run("decoding", tmp_path / "decoding.json", "--images", str(file), "--passes", "1")
    assert [row["size"] for row in found["rows"]] == ["640x480", "1920x1080", "3840x2160"]
    for row in found["rows"]:
        assert row["fast_cpu_ms"] > 0
        assert row["ratio"] == row["exact_cpu_ms"] / row["fast_cpu_ms"]
        assert 0 < row["mean_difference"] < 40
    assert found["rows"][0]["kib"] < found["rows"][2]["kib"]


def test_a_file_that_is_no_picture_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "no.jpg").write_bytes(b"no")
    monkeypatch.setattr(sys, "argv", ["decoding", "--images", str(tmp_path / "no.jpg")])
    with pytest.raises(SystemExit):
        decoding.main()
    assert "cannot read no.jpg" in capsys.readouterr().err
