"""Stacks come out as other tools read them."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

from cpuserve.profiling.folded import flame_svg, speedscope, write_stacks
from cpuserve.profiling.recording import Stacks

FOLDED = {"main (a.py:1);decode <x> (b.py:2)": 75, "main (a.py:1);post (b.py:9)": 25}


def test_speedscope_has_each_frame_once_and_the_seconds():
    document = speedscope(Stacks(100, 1.0, FOLDED, "py-spy attach", native=False), "digits")
    assert [frame["name"] for frame in document["shared"]["frames"]] == [
        "main (a.py:1)",
        "decode <x> (b.py:2)",
        "post (b.py:9)",
    ]
    (profile,) = document["profiles"]
    assert profile["samples"] == [[0, 1], [0, 2]]
    assert profile["weights"] == [0.75, 0.25]
    assert profile["endValue"] == 1.0


def test_the_flame_graph_is_svg_whose_widths_are_samples():
    root = ET.fromstring(flame_svg(FOLDED))  # noqa: S314  # our own
    boxes = {}
    for group in root:
        title, rect, _ = group
        boxes[title.text.partition(":")[0].split(" (")[0]] = rect
    widths = {name: float(rect.get("width")) for name, rect in boxes.items()}
    assert widths == {"main": 1200.0, "decode <x>": 900.0, "post": 300.0}
    assert float(boxes["main"].get("y")) > float(boxes["post"].get("y"))  # callers below


def test_no_stacks_are_an_empty_graph():
    assert len(ET.fromstring(flame_svg({}))) == 0  # noqa: S314


def test_all_files_are_written(tmp_path):
    write_stacks(Stacks(100, 1.0, FOLDED, "py-spy attach", native=False), "digits", tmp_path)
    assert (tmp_path / "stacks.folded").read_text().splitlines()[0].endswith(" 75")
    assert json.loads((tmp_path / "stacks.speedscope.json").read_text())["name"] == "digits"
    assert (tmp_path / "flamegraph.svg").read_text().startswith("<svg ")
