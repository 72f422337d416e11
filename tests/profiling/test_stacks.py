"""Stacks come out as other tools read them."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

from cpuserve.profiling.recording import Stacks
from cpuserve.profiling.stacks import speedscope, stack_graph, write_stacks

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


def drawn(folded):
    graph = stack_graph(Stacks(100, 1.0, folded, "py-spy attach", native=False))
    assert graph is not None
    return ET.fromstring(graph.drawing.file_text())  # noqa: S314  # our own


def test_the_flame_graph_is_svg_whose_widths_are_samples():
    space = "{http://www.w3.org/2000/svg}"
    boxes = {}
    for group in drawn(FOLDED).iter(f"{space}g"):
        title, rect, _ = group
        boxes[title.text.partition(":")[0].split(" (")[0]] = rect
    widths = {name: float(rect.get("width")) for name, rect in boxes.items()}
    assert widths == {"all": 1119.5, "main": 1119.5, "decode <x>": 839.5, "post": 279.5}
    assert float(boxes["main"].get("y")) < float(boxes["post"].get("y"))  # callers on top
    assert boxes["decode <x>"].get("x") == "0"


def test_a_file_of_its_own_has_its_colours_and_loads_nothing():
    text = ET.tostring(drawn(FOLDED), encoding="unicode")
    assert "prefers-color-scheme: dark" in text
    assert "url(" not in text
    assert "@import" not in text


def test_no_stacks_are_no_graph():
    assert stack_graph(Stacks(100, 1.0, {}, "py-spy attach", native=False)) is None
    idle = {"main (a.py:1);wait (threading.py:359)": 5}
    assert stack_graph(Stacks(100, 1.0, idle, "py-spy attach", native=False)) is None


def test_all_files_are_written(tmp_path):
    write_stacks(Stacks(100, 1.0, FOLDED, "py-spy attach", native=False), "digits", tmp_path)
    assert (tmp_path / "stacks.folded").read_text().splitlines()[0].endswith(" 75")
    assert json.loads((tmp_path / "stacks.speedscope.json").read_text())["name"] == "digits"
    assert (tmp_path / "flamegraph.svg").read_text().startswith("<svg ")
