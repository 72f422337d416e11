"""Charts put what they are given where its axis says, and escape all words."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from cpuserve.reports.charts import ChangeBar, Dot, PlotLine, change_bars, plot
from cpuserve.reports.flame_graph import flame_graph

DOTS = [Dot(0, 1.0, spread=0.5, tip="a < b"), Dot(1, 10.0, "best", label="<best>"), Dot(2, 100.0)]


def read(drawing):
    return ET.fromstring(drawing.__html__())  # noqa: S314  # our own


def circles(root):
    return [(float(one.get("cx")), float(one.get("cy"))) for one in root.iter("circle")]


def texts(root):
    return [one.text for one in root.iter("text")]


def test_a_linear_axis_begins_at_zero():
    root = read(plot(DOTS, [], "batch", "ms", x_names=["1", "2", "4"]))
    (x0, y0), (x1, y1), (x2, y2) = circles(root)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert (y0 - y2) / (y1 - y2) == pytest.approx(99 / 90, abs=0.01)
    assert {"1", "2", "4", "batch", "ms", "<best>", "0", "100"} <= set(texts(root))
    assert root.find("circle/title").text == "a < b"
    error = next(one for one in root.iter("line") if one.get("class") == "error trial")
    assert float(error.get("y1")) > y0 > float(error.get("y2"))


def test_a_logarithmic_axis_has_decades_of_one_height():
    root = read(
        plot(DOTS, [PlotLine([(0, 1.0), (2, 100.0)])], "batch", "ms", x_names=["1", "2", "4"], log=True)
    )
    ys = [y for _, y in circles(root)]
    steps = [a - b for a, b in pairwise(ys)]
    assert steps[0] == pytest.approx(steps[1], abs=0.2)
    assert steps[0] > 75  # units: the decades fill the plot
    assert {"1", "10", "100"} <= set(texts(root))
    assert root.find("polyline").get("points").count(",") == 2


def test_levels_outside_of_the_plot_are_left_out():
    root = read(
        plot(DOTS, [], "x", "y", levels=[(40.0, "in"), (4000.0, "out")], legend=[("series s0", "net")])
    )
    assert "in" in texts(root)
    assert "out" not in texts(root)
    assert "net" in texts(root)


def test_changes_stand_on_both_sides_of_zero():
    bars = change_bars(
        [ChangeBar("a", 0.2, 0.05, "good", "up"), ChangeBar("b", -0.1, 0.05, "bad", "down")], "t"
    )
    found = {one.get("class"): one for one in read(bars).iter("rect") if one.get("class").startswith("bar")}
    good, bad = found["bar good"], found["bar bad"]
    assert float(bad.get("x")) + float(bad.get("width")) == pytest.approx(float(good.get("x")), abs=0.2)
    assert float(good.get("width")) == pytest.approx(2 * float(bad.get("width")), abs=0.3)


def test_frames_have_the_class_of_their_kind_and_thin_ones_are_left_out():
    stacks = [(["main", "<i>"], 9990), (["main", "thin"], 1), (["other"], 9)]
    drawing = flame_graph(stacks, lambda name, above: "infer" if name == "<i>" else above)
    assert drawing is not None
    root = read(drawing)
    kinds = {one.get("data-n"): one.find("rect").get("class") for one in root.iter("g")}
    assert kinds == {"all": "other", "main": "other", "<i>": "infer"}
    assert flame_graph([], lambda name, above: above) is None
