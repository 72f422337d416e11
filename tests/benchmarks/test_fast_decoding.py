"""The count of answers that fast decoding changes: a small model, and what the page says of the file."""

from __future__ import annotations

import json

import pytest

from benchmarks.fast_decoding import MODELS, lines, measure
from tests.conftest import ROOT

RESULT = json.loads((ROOT / "docs" / "results" / "fast-decoding.json").read_text())


@pytest.mark.numeric
def test_a_model_answers_each_photo_twice(data_dir):
    photos = [data_dir / "images" / name for name in ("zebra.jpeg", "mug_8mp.jpg")]
    row = measure("mobilenet_v1_0.25_128_frozen", data_dir / "models", photos)
    assert [photo["photo"] for photo in row["photos"]] == ["zebra.jpeg", "mug_8mp.jpg"]
    zebra, mug = row["photos"]
    assert zebra["exact"] == zebra["fast"] == "341 zebra"
    assert zebra["margin"] > 0.9
    assert mug["change"] > 0  # scaled down by much


def test_the_page_shows_the_result():
    table = "\n".join(lines(RESULT["models"]))
    page = (ROOT / "docs" / "models.md").read_text()
    assert f"<!-- fast decoding -->\n{table}\n<!-- end -->" in page


def test_the_result_is_of_all_classifiers_in_f32():
    assert RESULT["precision"] == "f32"
    assert "benchmarks.fast_decoding " in RESULT["command"]
    assert tuple(row["model"] for row in RESULT["models"]) == MODELS
    assert all(len(row["photos"]) >= 20 for row in RESULT["models"])


def test_a_table_tells_of_models_whose_answers_stay():
    photo = {"photo": "a", "exact": "1 cat", "fast": "1 cat", "margin": 0.5, "change": 0.1}
    assert lines([{"model": "m", "photos": [photo]}])[2] == "| m | 1 | 0 | - | 0.500 | 0.100, 0.100 |"
