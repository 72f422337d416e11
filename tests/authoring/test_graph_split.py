"""Surgery on real graphs: head, core and tail one after the other give what the whole gives."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.authoring.cutpoints import cutpoints
from cpuserve.authoring.graph_split import TensorGraph, split_graph
from cpuserve.errors import UsageError
from cpuserve.serving.openvino_core import openvino_core
from tests.conftest import ROOT

F32 = {"INFERENCE_PRECISION_HINT": "f32"}


def run(model, arrays):
    compiled = openvino_core().compile_model(model, "CPU", F32)
    found = compiled(arrays)
    return [np.array(found[port]) for port in compiled.outputs]


def agree(model, inputs, outputs, tmp_path):
    """Cut, save and read again, run whole and parts on noise; the parts and the largest difference."""
    nodes = len(model.get_ops())
    found = split_graph(model, inputs, outputs)
    assert len(model.get_ops()) == nodes  # the whole is left as it is
    shape = [1 if side.is_dynamic else side.get_length() for side in model.input(0).partial_shape]
    kind = model.input(0).element_type.to_dtype()
    row = np.random.default_rng(0).integers(0, 127, shape).astype(kind)
    arrays = [row]
    for part in (found.head, found.core, found.tail):
        if part is not None:
            ov.save_model(part, tmp_path / "part.xml", compress_to_fp16=False)
            arrays = run(openvino_core().read_model(tmp_path / "part.xml"), arrays)
    wanted = run(model, [row])
    assert [array.shape for array in arrays] == [array.shape for array in wanted]
    apart = [np.abs(a.astype(np.float64) - b).max() for a, b in zip(arrays, wanted, strict=True)]
    return found, max(apart)


@pytest.mark.parametrize(
    "file",
    [
        "nanodet_m_416.onnx",
        "yolox_nano_416.onnx",
        "FastestDet.onnx",
        "deeplabv3_257_mv_gpu.tflite",
        "mobilenet_v2_1.0_224_quant.tflite",
        "vww_96_int8.tflite",
    ],
)
def test_files_of_other_frameworks(data_dir, tmp_path, file):
    model = openvino_core().read_model(data_dir / "models" / file)
    points = [point.name for point in cutpoints(model)]
    found, apart = agree(model, [points[1]], [], tmp_path)
    assert found.head is not None
    assert found.tail is None
    assert apart <= 1e-5
    middle = points[len(points) // 2]
    found, apart = agree(model, [], [middle], tmp_path)
    assert found.head is None
    assert found.tail is not None
    assert [sorted(port.get_names()) for port in found.tail.outputs] == [
        sorted(port.get_names()) for port in model.outputs
    ]
    assert apart <= 1e-5


def test_the_model_that_comes_along_in_three(tmp_path):
    model = openvino_core().read_model(ROOT / "ir_models" / "digits" / "1" / "model.xml")
    graph = TensorGraph(model)
    points = [graph.name(tensor) for tensor in graph.connectivity.articulations()]
    found, apart = agree(model, [points[2]], [points[-2]], tmp_path)
    assert found.head is not None
    assert found.tail is not None
    assert apart <= 1e-6


def residual():
    """Input data -> a -> b, c = a + b -> end; the tensors have these names."""
    data = ops.parameter((1, 4), np.float32, name="data")
    steps = {"data": data}
    steps["a"] = ops.multiply(data, np.float32(2))
    steps["b"] = ops.relu(steps["a"])
    steps["c"] = ops.add(steps["a"], steps["b"])
    steps["end"] = ops.abs(steps["c"])
    for name, node in steps.items():
        node.output(0).set_names({name})
        node.set_friendly_name(f"{name}_node")
    return ov.Model([ops.result(steps["end"])], [data])


def test_a_cut_inside_a_residual_block_names_what_leaks():
    with pytest.raises(UsageError, match=r"leaks: a reaches the outputs beside the inputs; add it with --in"):
        split_graph(residual(), ["b"], [])
    with pytest.raises(UsageError, match=r"leaks: a reaches the end .* add it with --output"):
        split_graph(residual(), [], ["b"])


def test_a_set_of_tensors_cuts_where_one_does_not(tmp_path):
    found, apart = agree(residual(), ["b", "a"], ["c"], tmp_path)
    assert [port.any_name for port in found.core.inputs] == ["b", "a"]
    assert apart == 0
    found, apart = agree(residual(), [], ["a", "b"], tmp_path)
    assert [port.any_name for port in found.core.outputs] == ["a", "b"]
    assert apart == 0


def test_a_tensor_that_only_passes_through(tmp_path):
    # b is made in the core, a is handed on by it
    found, apart = agree(residual(), ["a"], ["a", "b"], tmp_path)
    assert len(found.core.inputs) == 1
    assert apart == 0


@pytest.mark.parametrize(
    ("name", "means"),
    [("a_node", "a"), ("a:0", "a"), ("0:b_node", "a"), ("1:c_node", "b"), ("end_node", "end")],
)
def test_ways_to_name_a_tensor(name, means):
    graph = TensorGraph(residual())
    assert graph.name(graph.find(name)) == means


@pytest.mark.parametrize("name", ["a_nod", "0:data_node", "9:c_node", ""])
def test_a_name_that_is_none(name):
    with pytest.raises(UsageError, match=r"no tensor .*cpuserve cutpoints"):
        TensorGraph(residual()).find(name)


def test_near_names_are_proposed():
    with pytest.raises(UsageError, match=r"did you mean data_node or .*a_node"):
        TensorGraph(residual()).find("dta_node")


def test_ends_that_are_the_models_own():
    with pytest.raises(UsageError, match="nothing is cut off"):
        split_graph(residual(), ["data"], ["end"])


def test_an_input_that_the_output_does_not_need():
    with pytest.raises(UsageError, match="do not depend on the input data"):
        split_graph(residual(), ["a", "data"], ["b"])


def test_a_tensor_without_the_batch_in_front(data_dir):
    model = openvino_core().read_model(data_dir / "models" / "FastestDet.onnx")
    graph = TensorGraph(model)
    folded = next(
        graph.name(tensor)
        for tensor in graph.connectivity.articulations()
        if graph.value(tensor).partial_shape[0].get_length() != 1
    )
    with pytest.raises(UsageError, match=r"cannot cut at .* its first side must be the batch, 1"):
        split_graph(model, [], [folded])


def test_a_shape_that_is_read_across_the_cut(tmp_path):
    data = ops.parameter((1, 2, 3), np.float32, name="data")
    middle = ops.relu(data)
    middle.output(0).set_names({"middle"})
    flat = ops.reshape(middle, ops.constant([1, 6]), special_zero=False)
    back = ops.reshape(flat, ops.shape_of(data), special_zero=False)
    flat.output(0).set_names({"flat"})
    model = ov.Model([ops.result(back)], [data])
    found, apart = agree(model, ["middle"], ["flat"], tmp_path)
    assert len(found.tail.inputs) == 1
    assert apart == 0
