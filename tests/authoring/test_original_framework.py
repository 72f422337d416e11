"""A model runs in its own framework with inputs and outputs in the graph's order, or the reason is said."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cpuserve.authoring.original_framework import OriginalModel, load_original
from cpuserve.authoring.source import SourceModel, read_source
from cpuserve.errors import ModelLoadError, install_command


@pytest.fixture
def source(tmp_path: Path) -> SourceModel:
    """``plus = a + b`` and ``minus = a - b``."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("a", "b")]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("plus", "minus")]
    nodes = [helper.make_node("Add", ["a", "b"], ["plus"]), helper.make_node("Sub", ["a", "b"], ["minus"])]
    graph = helper.make_graph(nodes, "sums", ports, ends)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(made, tmp_path / "sums.onnx")
    return read_source(str(tmp_path / "sums.onnx"))


def rows(*values: float) -> list[np.ndarray]:
    return [np.full((1, 2), value, np.float32) for value in values]


def test_inputs_and_outputs_are_in_the_order_of_the_graph(source):
    original = load_original(source)
    assert isinstance(original, OriginalModel)
    assert original.title.startswith("onnxruntime ")
    plus, minus = original.run(rows(5, 3))
    assert (plus.tolist(), minus.tolist()) == ([[8, 8]], [[2, 2]])


def test_chosen_outputs_are_run_alone(source):
    chosen = read_source(str(source.path), outputs=["minus"])
    original = load_original(chosen)
    assert isinstance(original, OriginalModel)
    assert [output.tolist() for output in original.run(rows(5, 3))] == [[[2, 2]]]


def test_an_output_that_the_framework_does_not_have_is_refused(source):
    source.model.outputs[0].get_tensor().set_names({"inner"})
    with pytest.raises(ModelLoadError, match=r"it knows plus, minus, and not all of"):
        load_original(source)


def test_what_the_framework_raises_names_it_and_the_file(source):
    original = load_original(source)
    assert isinstance(original, OriginalModel)
    with pytest.raises(ModelLoadError, match=r"onnxruntime cannot run sums\.onnx: .*INVALID_ARGUMENT"):
        original.run([np.zeros((1, 3), np.float32), np.zeros((1, 2), np.float32)])


def test_a_missing_framework_names_the_extra(source, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert load_original(source) == f"onnxruntime is not installed ({install_command('onnx')})"


def test_formats_without_a_framework_here(source):
    paddle = dataclasses.replace(source, framework="paddle", title="a PaddlePaddle model")
    assert load_original(paddle) == "a PaddlePaddle model is not run in its own framework"
