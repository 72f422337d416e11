"""The scale and zero point of an input are found in the forms that OpenVINO's importers give them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
import pytest
from onnx import TensorProto, helper, numpy_helper
from openvino import opset13 as ops

from cpuserve.serving.input_quantisation import input_quantisation, scales_pixels
from cpuserve.serving.openvino_core import openvino_core


def quantised_onnx(
    folder: Path, kind: int, scale: Any, zero: Any, *, real: bool = False, layout: str = "NCHW"
) -> Path:
    """The mean of each channel of a quantised input, or of a real one that is quantised first."""
    channel = layout.index("C")
    shape: list[Any] = ["N", 3, 4, 4] if layout == "NCHW" else ["N", 4, 4, 3]
    axis: dict[str, Any] = {"axis": channel} if np.ndim(scale) else {}
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **axis)] if real else []
    axes = [2, 3] if layout == "NCHW" else [1, 2]
    nodes += [
        helper.make_node("DequantizeLinear", ["q" if real else "x", "s", "z"], ["r"], **axis),
        helper.make_node("ReduceMean", ["r", "axes"], ["y"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT if real else kind, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [
            numpy_helper.from_array(np.array(axes, np.int64), "axes"),
            numpy_helper.from_array(np.asarray(scale, np.float32), "s"),
            numpy_helper.from_array(np.asarray(zero, helper.tensor_dtype_to_np_dtype(kind)), "z"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    file = folder / "net.onnx"
    onnx.save(model, file)
    return file


@pytest.mark.parametrize(
    ("kind", "scale", "zero", "low", "high"),
    [
        (TensorProto.INT8, 1 / 255, -128, 0, 1),
        (TensorProto.UINT8, 1 / 255, 0, 0, 1),
        (TensorProto.INT8, 2 / 255, 0, -1, 1),
        (TensorProto.INT8, 0.0186, -14, -2.12, 2.62),
        (TensorProto.INT16, 1 / 32767, 0, -1, 1),
        (TensorProto.UINT8, [0.01, 0.02, 0.03], [1, 2, 3], -0.09, 7.56),
    ],
)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_dequantised_inputs_of_onnx(
    tmp_path: Path, kind: int, scale: Any, zero: Any, low: float, high: float, layout: str
):
    model = openvino_core().read_model(quantised_onnx(tmp_path, kind, scale, zero, layout=layout))
    found = input_quantisation(model.input(0))
    assert found is not None
    assert found.scale == pytest.approx(np.atleast_1d(scale))
    assert found.zero_point == pytest.approx(np.atleast_1d(zero))
    assert found.real_range == pytest.approx((low, high), abs=0.01)


def test_real_inputs_that_are_quantised_first_say_their_range(tmp_path: Path):
    model = openvino_core().read_model(quantised_onnx(tmp_path, TensorProto.UINT8, 2 / 255, 128, real=True))
    found = input_quantisation(model.input(0))
    assert found is not None
    assert found.real_range == pytest.approx((-1, 1), abs=0.01)


@pytest.mark.parametrize(
    ("file", "scale", "zero"),
    [
        ("vww_96_int8.tflite", 1 / 255, -128),
        ("mobilenet_v1_0.25_128_quant.tflite", 1 / 128, 128),
        ("vww_96_float.tflite", None, None),
    ],
)
def test_tensorflow_lite(data_dir: Path, file: str, scale: float | None, zero: float | None):
    model = openvino_core().read_model(data_dir / "models" / file)
    found = input_quantisation(model.input(0))
    if scale is None or zero is None:
        assert found is None
    else:
        assert found is not None
        assert (found.scale[0], found.zero_point[0]) == pytest.approx((scale, zero))


def test_inputs_without_a_quantisation_have_none():
    bytes_ = ops.parameter([1, 3, 4, 4], np.int8, name="x")
    real = ops.parameter([1, 3, 4, 4], np.float32, name="y")
    flag = ops.parameter([1], np.dtype(bool), name="z")
    model = ov.Model([ops.add(ops.convert(bytes_, np.float32), real), flag], [bytes_, real, flag])
    assert [input_quantisation(port) for port in model.inputs] == [None] * 3


@pytest.mark.parametrize(
    ("first", "scales"),
    [
        (lambda x: ops.multiply(x, np.float32(1 / 127.5)), True),
        (lambda x: ops.divide(x, np.float32(255)), True),
        (lambda x: ops.subtract(x, np.array([123.68, 116.8, 103.9], np.float32)), True),
        (lambda x: ops.multiply(ops.convert(x, np.float32), np.float32(0.5)), False),
        (ops.relu, False),
    ],
)
def test_graphs_that_scale_pixels_themselves_are_known(first: Any, scales: bool):
    data = ops.parameter([1, 4, 4, 3], np.float32, name="x")
    model = ov.Model([first(data)], [data])
    assert scales_pixels(model.input(0)) == scales
