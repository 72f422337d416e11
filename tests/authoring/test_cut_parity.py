"""A cut model is held against the whole: differences beyond the allowed share are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.authoring.cut_parity import CutComparison
from cpuserve.authoring.graph_split import SplitGraph
from cpuserve.errors import ModelLoadError, UsageError
from cpuserve.models.card import Card
from cpuserve.models.cut_manifest import CutManifest, CutPort
from cpuserve.models.repository import ModelFile
from cpuserve.settings import Settings


def scaled(factor: float) -> ov.Model:
    """Four numbers, each times ``factor``."""
    data = ops.parameter([-1, 2, 2], np.float32, name="data")
    data.output(0).set_names({"data"})
    out = ops.multiply(data, np.float32(factor))
    out.output(0).set_names({"out"})
    return ov.Model([ops.result(out)], [data])


def compared(folder: Path, factor: float, share: float, images: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The whole doubles its numbers; the cut model, a core alone, multiplies them by ``factor``."""
    whole, core = scaled(2), scaled(factor)
    ov.save_model(core, folder / "model.xml", compress_to_fp16=False)
    inputs, outputs = (tuple(map(CutPort.of, ports)) for ports in (whole.inputs, whole.outputs))
    parts = CutManifest(None, None, inputs, outputs, False, {})
    comparison = CutComparison("whole", whole, Card(model_type="numbers"), images, share)
    seen: list[tuple[int, int]] = []
    file = ModelFile("parts", 1, folder / "model.xml")
    said = comparison.run(
        SplitGraph(None, core, None), parts, file, Settings(), 1, lambda *done: seen.append(done)
    )
    assert seen == [(number, 4) for number in (1, 2, 3, 4)]
    return said


def test_the_same_answers_are_reported(tmp_path):
    said = compared(tmp_path, 2, 0.99)
    assert (said["on"], said["precision"]) == ("4 rows of random numbers, seed 0", "f32")
    assert said["outputs"]["out"]["max_abs_diff"] == 0


@pytest.mark.parametrize(("factor", "share"), [(2.01, 0.99), (2.5, 0.7), (9, 0)])
def test_numbers_may_differ_by_the_rest_of_the_share(tmp_path, factor, share):
    assert compared(tmp_path, factor, share)["outputs"]["out"]["max_abs_diff"] > 0


@pytest.mark.parametrize(("factor", "share"), [(2.03, 0.99), (2.7, 0.7), (2.0001, 1)])
def test_larger_differences_are_refused(tmp_path, factor, share):
    with pytest.raises(ModelLoadError, match="the cut model does not answer as whole: output out has"):
        compared(tmp_path, factor, share)


def test_pictures_for_a_model_that_takes_none_are_refused(tmp_path):
    with pytest.raises(UsageError, match="whole takes no pictures: compare without --images"):
        compared(tmp_path, 2, 0.99, (tmp_path / "a.png",))
