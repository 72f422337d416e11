"""The comparison of precisions: a small model all the way through, and what the result file claims."""

from __future__ import annotations

import json

import pytest

from benchmarks.precisions import MODELS, lines, measure
from tests.conftest import ROOT

RESULT = ROOT / "docs" / "results" / "precisions.json"


@pytest.mark.timeout(300)  # NNCF
def test_a_small_model_is_measured_in_every_precision(data_dir):
    row = measure(MODELS[-1], data_dir, rounds=1, seconds=0.001)
    assert row["model"] == "vww_96_float.tflite"
    assert row["guard"]["published"] is True
    assert list(row["precisions"]) == ["f32", "bf16", "int8"]
    f32, bf16, int8 = row["precisions"].values()
    assert (f32["top1_agreement"], f32["max_abs_diff"]) == (1.0, 0.0)
    assert (f32["latency_times_faster"], f32["throughput_times_higher"]) == (1.0, 1.0)
    assert int8["max_abs_diff"] > 0
    assert min(one["latency_ms"] for one in (f32, bf16, int8)) > 0
    assert (f32["note"], int8["note"]) == ("", "")
    assert bf16["note"] in ("", "runs as f32 here")
    if bf16["note"]:
        assert bf16["max_abs_diff"] == 0
    refused = {**row, "precisions": {}, "guard": {**row["guard"], "published": False, "accuracy": 0.5}}
    table = lines([row, refused])
    assert [line.split(" | ")[0] for line in table[2:5]] == [
        "| vww_96_float, f32",
        f"| vww_96_float, bf16{' (' + bf16['note'] + ')' if bf16['note'] else ''}",
        "| vww_96_float, int8",
    ]
    assert "refused by the guard, agreement 1.0000 to 0.5000" in table[5]


def test_the_page_shows_the_result():
    table = "\n".join(lines(json.loads(RESULT.read_text())["models"]))
    assert f"<!-- figures -->\n{table}\n<!-- end -->" in (ROOT / "docs" / "quantize.md").read_text()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_int8_is_as_good_or_refused(model):
    (row,) = (one for one in json.loads(RESULT.read_text())["models"] if one["model"].startswith(model.name))
    guard = row["guard"]
    lost = guard["accuracy_float"] - guard["accuracy"]
    assert guard["max_drop"] == model.max_drop
    assert guard["published"] is (lost <= model.max_drop)
    assert ("int8" in row["precisions"]) is guard["published"]
