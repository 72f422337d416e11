"""Plots are drawn for what was measured, and say when they cannot be."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest

from cpuserve.bench.networks import NetworkRow
from cpuserve.bench.networks_plots import write_plots
from cpuserve.errors import UsageError

ROWS = [
    NetworkRow(name, "f32", batch, factor * 50 / batch**0.3, 1.0, (1.0, 2.0))
    for name, factor in (("mobilenet", 1), ("vgg16", 30))
    for batch in (1, 2, 4)
]


def test_four_plots_of_a_precision_that_was_measured_are_not_empty(tmp_path):
    files = write_plots([*ROWS, NetworkRow("vgg16", "bf16", 1, skipped="no")], tmp_path, "amd")
    assert sorted(file.name for file in files) == sorted(
        f"by_{kind}_f32_{scale}.png" for kind in ("network", "batch") for scale in ("linear", "log")
    )
    pictures = [cv2.imread(str(file)) for file in files]
    for picture in pictures:
        colours = picture.astype(np.uint32) @ np.array([1, 1 << 8, 1 << 16], np.uint32)
        assert len(np.unique(colours)) > 20  # lines, dots and words
    assert len({picture.tobytes() for picture in pictures}) == len(files)


def test_nothing_measured_draws_nothing(tmp_path):
    assert write_plots([NetworkRow("vgg16", "bf16", 1, skipped="no")], tmp_path, "amd") == []
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install cpuserve\[bench\]"):
        write_plots(ROWS, tmp_path, "amd")
