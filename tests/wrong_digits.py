"""A second version of the digits that answers each digit by the next one, 7 by 8."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from cpuserve.serving.openvino_core import openvino_core

DIGITS = Path(__file__).resolve().parent.parent / "ir_models" / "digits" / "1"


def wrong_digits(folder: Path) -> Path:
    """Write the model into a directory that is made; returns it."""
    model = openvino_core().read_model(DIGITS / "model.xml")
    (result,) = model.get_results()
    scores = result.input_value(0)
    names = scores.get_names()
    scores.set_names(set())
    order = np.array([(place - 1) % 10 for place in range(10)])
    turned = ops.gather(scores, order, np.array(1))
    turned.output(0).set_names(names)
    result.input(0).replace_source_output(turned.output(0))
    model.validate_nodes_and_infer_types()
    folder.mkdir(parents=True)
    ov.save_model(model, folder / "model.xml")
    return folder


def good_digits(folder: Path) -> Path:
    """Copy the digits into a directory that is made; returns it."""
    shutil.copytree(DIGITS, folder)
    return folder
