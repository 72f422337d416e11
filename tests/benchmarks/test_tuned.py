"""Medians of the tuned way beside the defaults and the hints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.tuned import markdown, summary
from cpuserve.tune.trial import Figures, Point


def figures(rate: float) -> Figures:
    return Figures(rate, 1.0, 2.0, 3.0, 1000 / rate, 100.0, 0.0)


def test_gain_noise_and_equal_settings():
    ways = {
        "defaults": Point(),
        "tuned": Point.of({"workers": 1}),
        "hint LATENCY": Point.of({"workers": 1}),
    }
    rounds = {
        "defaults": [figures(100), figures(110), figures(90)],
        "tuned": [figures(120), figures(125), figures(118)],
        "hint LATENCY": [figures(80)] * 3,
    }
    found = summary(ways, rounds)
    assert found["tuned"]["gain"] == pytest.approx(0.2)
    assert found["defaults"]["gain"] == 0
    assert found["defaults"]["images_per_s"] == {"median": 100, "noise": pytest.approx(0.2)}
    assert found["hint LATENCY"]["same_as"] == "tuned"
    assert found["tuned"]["same_as"] is None
    assert found["tuned"]["settings"] == {"workers": 1}


def test_the_page_shows_the_result_file():
    docs = Path(__file__).resolve().parents[2] / "docs"
    found = json.loads((docs / "results" / "tuned.json").read_text())
    assert markdown(found) in (docs / "tune.md").read_text()
