"""Two profiles side by side: what changed is said, per request, and findings are matched by their rule."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cpuserve.profiling.diff import FigureChange, compare
from cpuserve.profiling.recording import LayerTime
from tests.profiling.made import QUIET, made
from tests.profiling.test_findings import BIG


def lines(found):
    return {line.name: line for line in found}


def test_a_bottleneck_that_is_gone():
    found = compare(made(workers=1, threads=1, stages=BIG), made(workers=1, threads=2))
    assert "decode-threads" in [one.rule for one in found.gone]
    assert found.new == ()
    assert found.settings == {"threads": (1, 2)}
    stages = lines(found.stages)
    assert stages["decode"].before == pytest.approx(24.0)
    assert stages["decode"].factor == pytest.approx(1 / 24)
    assert lines(found.whole)["throughput"].factor == pytest.approx(30.8 / 8.1 * 2, rel=0.05)
    assert lines(found.cpu)["decode"].before == pytest.approx(25.0, rel=0.05)
    assert found.same_model
    assert found.same_machine


def test_a_stage_of_one_profile_only():
    found = compare(made(), made(stages={**QUIET, "queue": 3.0}, model="other", machine="b"))
    assert lines(found.stages)["queue"] == FigureChange("queue", "ms", None, pytest.approx(3.0))
    assert lines(found.stages)["queue"].factor is None
    assert not found.same_model
    assert not found.same_machine


def test_layers_with_the_largest_change_first_and_equal_names_added_up():
    layer = LayerTime("a", "Add", "jit", "f32", 1, 10.0, 1)
    one = made(layers=[layer, layer, replace(layer, name="b", mean_us=5.0)])
    two = made(layers=[replace(layer, mean_us=2.0), replace(layer, name="c", mean_us=3.0)])
    found = compare(one, two).layers
    assert [(line.name, line.before, line.after) for line in found] == [
        ("a", 20.0, 2.0),
        ("b", 5.0, None),
        ("c", None, 3.0),
    ]


def test_findings_of_both_are_kept():
    found = compare(made(gap=60.0), made(gap=70.0))
    assert found.kept == ("idle",)
    assert found.gone == found.new == ()


def test_a_difference_is_fit_for_json():
    content = json.loads(json.dumps(compare(made(), made(requests=[], batches=[])).to_json()))
    assert content["new"][0]["rule"] == "idle"
    assert content["whole"][0]["name"] == "throughput"
    assert content["whole"][0]["factor"] == 0.0
