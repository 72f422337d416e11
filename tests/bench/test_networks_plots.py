"""Plots are drawn for what was measured, with every figure in them."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from cpuserve.bench.networks import NetworkRow
from cpuserve.bench.networks_plots import write_plots

SVG = "{http://www.w3.org/2000/svg}"
ROWS = [
    NetworkRow(name, "f32", batch, factor * 50 / batch**0.3, 1.0, (1.0, 2.0))
    for name, factor in (("mobilenet", 1), ("vgg16", 30))
    for batch in (1, 2, 4)
]


def test_four_plots_of_a_precision_that_was_measured_have_every_figure(tmp_path):
    files = write_plots([*ROWS, NetworkRow("vgg16", "bf16", 1, skipped="no")], tmp_path, "amd")
    assert sorted(file.name for file in files) == sorted(
        f"by_{kind}_f32_{scale}.svg" for kind in ("network", "batch") for scale in ("linear", "log")
    )
    for file in files:
        root = ET.fromstring(file.read_text(encoding="utf-8"))  # noqa: S314  # our own
        told = [one.text for one in root.iter(f"{SVG}title")]
        assert len(told) == len(ROWS)
        assert "vgg16, batch 1: 1.5e+03 ± 1 ms" in told
        words = [one.text for one in root.iter(f"{SVG}text")]
        assert {"amd, f32", "mobilenet", "25 images/s", "ms an image, less is better"} <= set(words)
        by_batch = file.name.startswith("by_batch")
        assert len(list(root.iter(f"{SVG}polyline"))) == (2 if by_batch else 0)
        assert ("batch 4" in words) is not by_batch
    assert len({file.read_text(encoding="utf-8") for file in files}) == len(files)


def test_nothing_measured_draws_nothing(tmp_path):
    assert write_plots([NetworkRow("vgg16", "bf16", 1, skipped="no")], tmp_path, "amd") == []
    assert list(tmp_path.iterdir()) == []
