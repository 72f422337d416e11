"""A file that OpenVINO refuses is refused with its cause and what to do, and can be ended in front of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cpuserve.authoring.source import input_shapes, read_source
from cpuserve.errors import ModelLoadError, UsageError
from cpuserve.serving.openvino_core import openvino_core
from tests.tflite_files import TfliteFile


def save(file: Path, nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], **more: Any) -> str:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, more.pop("weights", ()))
    domains = ("", *sorted({node.domain for node in nodes} - {""}))
    opsets = [helper.make_opsetid(domain, 1 if domain else more.get("opset", 13)) for domain in domains]
    more.pop("opset", None)
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), file, **more)
    return str(file)


def real(name: str, *shape: int | str) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def with_operation(folder: Path, operation: str, domain: str = "", **attributes: Any) -> str:
    """A softmax, and behind it an operation."""
    nodes = [
        helper.make_node("Softmax", ["x"], ["likely"]),
        helper.make_node(operation, ["likely"], ["y"], domain=domain, **attributes),
    ]
    return save(folder / "net.onnx", nodes, [real("x", "N", 2)], [real("y", "N", 2)])


def zipmap(folder: Path) -> str:
    """What sklearn-onnx writes for a classifier unless it is told otherwise."""
    nodes = [
        helper.make_node("Softmax", ["x"], ["likely"]),
        helper.make_node("ZipMap", ["likely"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]),
    ]
    entry = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    maps = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.INT64, entry))
    return save(folder / "net.onnx", nodes, [real("x", "N", 2)], [helper.make_value_info("y", maps)])


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (zipmap, "option zipmap=False"),
        (
            lambda folder: with_operation(folder, "LabelEncoder", "ai.onnx.ml"),
            "classical machine learning",
        ),
        (
            lambda folder: with_operation(folder, "QLinearGlobalAveragePool", "com.microsoft"),
            "quantise with quant_format=QDQ",
        ),
        (
            lambda folder: with_operation(folder, "EfficientNMS_TRT", "TRT"),
            "export it without them; .*; or end in front of it: --output likely",
        ),
    ],
    ids=["zipmap", "classical", "quantised", "another"],
)
def test_the_advice_fits_the_cause_in_onnx(tmp_path, make, advice):
    with pytest.raises(ModelLoadError, match=advice):
        read_source(make(tmp_path))


@pytest.mark.parametrize(
    ("operation", "advice"),
    [
        ("edgetpu-custom-op", "compiled for an Edge TPU"),
        ("FlexErf", "SELECT_TF_OPS"),
        ("TransformLandmarks", "one of MediaPipe's own"),
        ("MyOwn", "export it without them"),
    ],
)
def test_the_advice_fits_the_cause_in_tensorflow_lite(tmp_path, operation, advice):
    made = TfliteFile()
    x, likely, y = (made.tensor(name, [1, 4]) for name in ("x", "likely", "y"))
    made.add(x, made.constant("one", np.ones([1, 4], np.float32)), likely)
    made.custom(operation, [likely], [y])
    file = str(made.save(tmp_path / "net.tflite", [x], [y]))
    with pytest.raises(ModelLoadError, match=f"{advice}.*end in front of it: --output likely"):
        read_source(file)
    model = read_source(file, outputs=["likely"]).model
    assert openvino_core().compile_model(model, "CPU")(np.zeros([1, 4], np.float32))[0].tolist() == [
        [1, 1, 1, 1]
    ]
    with pytest.raises(ModelLoadError, match=r"behind an operation that OpenVINO does not know.*likely"):
        read_source(file, outputs=["y"])
    with pytest.raises(UsageError, match="--output nothing: no tensor of that name"):
        read_source(file, outputs=["nothing"])


def test_nothing_is_in_front_of_an_operation_on_the_input(tmp_path):
    node = helper.make_node("Own", ["x"], ["y"], domain="mine")
    file = save(tmp_path / "net.onnx", [node], [real("x", 1, 2)], [real("y", 1, 2)])
    with pytest.raises(ModelLoadError, match=r"take the float one$"):
        read_source(file)


def weights_outside(folder: Path) -> Path:
    weights = numpy_helper.from_array(np.ones((2, 64), np.float32), "w")
    save(
        folder / "net.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [real("x", "N", 2)],
        [real("y", "N", 64)],
        weights=[weights],
        save_as_external_data=True,
        location="net.weights",
        size_threshold=0,
    )
    return folder / "net.weights"


def test_missing_and_short_weights_are_named(tmp_path):
    weights = weights_outside(tmp_path)
    read_source(str(tmp_path / "net.onnx"))
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelLoadError, match=r"net\.weights end too early: 100 of 512 bytes"):
        read_source(str(tmp_path / "net.onnx"))
    weights.unlink()
    with pytest.raises(
        ModelLoadError, match=r"lie in net\.weights, which is missing: copy it beside net\.onnx"
    ):
        read_source(str(tmp_path / "net.onnx"))


def test_shapes_are_said_before_the_import_where_it_needs_them(tmp_path):
    """A convolution behind a reshape whose rank only the input's shape tells."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Reshape", ["x", "shape"], ["same"]),
        helper.make_node("Conv", ["same", "w"], ["y"]),
    ]
    weights = numpy_helper.from_array(np.ones((1, 1, 3), np.float32), "w")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    file = save(tmp_path / "net.onnx", nodes, [x], [real("y", 1, 1, "k")], weights=[weights])
    with pytest.raises(ModelLoadError, match="say the shapes of its inputs, as in --input NAME"):
        read_source(file)
    assert str(read_source(file, input_shapes(["x[1,1,8]"])).model.output(0).partial_shape) == "[1,1,6]"
    assert str(read_source(file, input_shapes(["[1,1,9]"])).model.output(0).partial_shape) == "[1,1,7]"


@pytest.mark.parametrize("place", ["input", "output"])
def test_text_is_refused_by_the_name_of_its_port(tmp_path, place):
    text = helper.make_tensor_value_info("words", TensorProto.STRING, ["N"])
    if place == "input":
        nodes = [helper.make_node("Equal", ["words", "word"], ["same"])]
        same = helper.make_tensor_value_info("same", TensorProto.BOOL, ["N"])
        weights = [helper.make_tensor("word", TensorProto.STRING, [1], [b"a"])]
        file = save(tmp_path / "net.onnx", nodes, [text], [same], weights=weights, opset=19)
    else:
        nodes = [helper.make_node("Identity", ["text"], ["words"])]
        source = helper.make_tensor_value_info("text", TensorProto.STRING, ["N"])
        file = save(tmp_path / "net.onnx", nodes, [source], [text])
    with pytest.raises(ModelLoadError, match=r"'(words|text)' of net\.onnx is text \(strings\)"):
        read_source(file)
