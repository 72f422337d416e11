"""A small classifier of the strongest colour channel, with cards for RGB and for BGR."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from cpuserve.models.card import Card


def colour_model(folder: Path, *, rgb: bool) -> None:
    """Write a classifier [N, 3, 16, 16] of the strongest channel, trained on RGB or on BGR."""
    entry = ops.parameter((-1, 3, 16, 16), np.float32, name="image")
    entry.output(0).set_names({"image"})
    means = ops.softmax(ops.reduce_mean(entry, np.array([2, 3])), 1)
    means.output(0).set_names({"means", "a_longer_name"})
    model = ov.Model([ops.result(means)], [entry])
    labels = ("red", "green", "blue") if rgb else ("blue", "green", "red")
    Card(
        model_type="Classification", labels=labels, reverse_input_channels=rgb, scale_values=(25.0,), topk=3
    ).write(model)
    folder.mkdir(parents=True)
    ov.save_model(model, folder / "model.xml")
