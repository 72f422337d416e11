"""The batch is freed where an exporter wrote it down, and integers become real numbers."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops
from openvino.opset11 import interpolate

from cpuserve.models.quantisation import Dequantise
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.servable_graph import dequantise_output, free_batch, output_quantisation

EXACT = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}


def test_a_reshape_of_the_batch_is_freed_and_keeps_its_name():
    data = ops.parameter([1, 2, 3], np.float32, name="data")
    flat = ops.reshape(data, np.array([1, 6], dtype=np.int64), special_zero=False)
    flat.output(0).set_names({"flat"})
    weights = ops.reshape(ops.constant(np.ones((6, 1), np.float32)), np.array([1, 6]), special_zero=False)
    total = ops.add(flat, weights)
    model = ov.Model([total, flat], [data], "tiny")
    free_batch(model)
    model.reshape([4, 2, 3])
    assert list(model.output("flat").get_shape()) == [4, 6]
    assert list(model.outputs[0].get_shape()) == [4, 6]
    assert list(weights.get_output_shape(0)) == [1, 6]


def test_sizes_of_a_resize_with_the_batch_in_them_are_freed():
    data = ops.parameter([1, 2, 4, 4], np.float32, name="data")
    size = ops.constant(np.array([1, 2, 8, 6], np.int64))
    larger = interpolate(data, size, "linear_onnx", "sizes", coordinate_transformation_mode="half_pixel")
    model = ov.Model([larger], [data], "tiny")
    rows = np.random.default_rng(3).random((3, 2, 4, 4), np.float32)
    alone = openvino_core().compile_model(model, "CPU", EXACT)
    wanted = [np.array(alone(row[None])[0][0]) for row in rows]
    free_batch(model)
    model.reshape([3, 2, 4, 4])
    found = openvino_core().compile_model(model, "CPU", EXACT)(rows)[0]
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_dequantised_outputs_keep_their_name():
    data = ops.parameter([1, 3], np.int8, name="data")
    data.output(0).set_names({"data"})
    answer = ops.relu(data)
    answer.output(0).set_names({"answer"})
    model = ov.Model([answer], [data], "tiny")
    dequantise_output(model, Dequantise(scale=0.5, zero_point=-2))
    found = openvino_core().compile_model(model, "CPU", EXACT)(np.array([[-5, 0, 7]], np.int8))["answer"]
    assert found.dtype == np.float32
    assert found.tolist() == [[1.0, 1.0, 4.5]]


def quantised(low: float | list[float], high: float | list[float]) -> ov.Model:
    """Integers 0 to 255 that stand for ``low`` to ``high``, as importers of quantised models write it."""
    data = ops.parameter([1, 2], np.float32, name="data")
    limits = [np.array(limit, np.float32) for limit in (low, high, 0, 255)]
    integers = ops.convert(ops.fake_quantize(data, *limits, levels=256), np.uint8)
    return ov.Model([ops.reshape(integers, np.array([2, 1]), special_zero=False)], [data])


def test_the_scale_of_quantised_outputs_is_read_from_the_graph():
    found = output_quantisation(quantised(-1, 4.1).outputs[0])
    assert found is not None
    assert found.scale == pytest.approx(0.02)
    assert found.zero_point == 50


def test_outputs_without_one_scale_are_left_alone():
    assert output_quantisation(quantised([[-1, -2]], [[1, 2]]).outputs[0]) is None
    data = ops.parameter([1, 2], np.float32, name="data")
    assert output_quantisation(ov.Model([data], [data]).outputs[0]) is None
    ids = ov.Model([ops.convert(data, np.uint8)], [data])
    assert output_quantisation(ids.outputs[0]) is None
