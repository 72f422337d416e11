"""The benchmark of decoding in processes apart, on one small photo, and what its result file holds."""

from __future__ import annotations

import json

import numpy as np

from benchmarks.guarded_decoding import measure
from tests.conftest import ROOT


def test_every_format_and_size_is_measured_here_and_apart():
    photo = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    found = measure([photo], passes=1)
    assert {(row["format"], row["size"]) for row in found["rows"]} == {
        (name, size)
        for name in ("JPEG", "PNG", "WebP", "GIF", "TIFF", "BMP")
        for size in ("28x28", "640x480", "1920x1080")
    }
    assert all(row["here_cpu_ms"] > 0 < row["apart_cpu_ms"] for row in found["rows"])
    assert found["first_ms"] > 0 < found["after_crash_ms"]
    assert found["pss_mib"] > 1


def test_the_result_file_is_of_this_benchmark():
    written = json.loads((ROOT / "docs" / "results" / "guarded-decoding.json").read_text())
    assert ".guarded_decoding " in written["command"]
    assert len(written["rows"]) == 18


def test_the_page_tells_what_decoding_apart_costs():
    rows = json.loads((ROOT / "docs" / "results" / "guarded-decoding.json").read_text())["rows"]
    more = {(row["format"], row["size"]): f"{row['more_percent']:.0f}" for row in rows}
    page = (ROOT / "docs" / "security.md").read_text()
    for name in ("JPEG", "PNG", "WebP", "GIF", "TIFF", "BMP"):
        (line,) = [row for row in page.splitlines() if row.startswith(f"| {name}") and row.count("|") == 4]
        assert line.endswith(f"| {more[name, '640x480']} | {more[name, '1920x1080']} |")
