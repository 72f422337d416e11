"""Multiply-adds and parameters against what is worked out by hand and against published figures."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.authoring.complexity import Complexity, complexity, multiply_adds
from cpuserve.errors import ModelLoadError
from cpuserve.serving.openvino_core import openvino_core

RANDOM = np.random.default_rng(0)


def weights(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def image(*shape):
    return ops.parameter(list(shape), np.float32)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        # 32 maps of 112x112 for 2 images, each element from 3 channels of 3x3
        (
            ops.convolution(image(2, 3, 224, 224), weights(32, 3, 3, 3), [2, 2], [1, 1], [1, 1], [1, 1]),
            2 * 32 * 112 * 112 * 3 * 9,
        ),
        # 4 groups of 2 -> 3 channels
        (
            ops.group_convolution(
                image(1, 8, 10, 10), weights(4, 3, 2, 5, 5), [1, 1], [0, 0], [0, 0], [1, 1]
            ),
            4 * 3 * 6 * 6 * 2 * 25,
        ),
        # each of 16 channels of 7x7 is spread over 8 channels of 2x2
        (
            ops.convolution_backprop_data(image(1, 16, 7, 7), weights(16, 8, 2, 2), [2, 2]),
            16 * 7 * 7 * 8 * 4,
        ),
        (
            ops.group_convolution_backprop_data(image(1, 16, 7, 7), weights(4, 4, 2, 2, 2), [2, 2]),
            16 * 7 * 7 * 2 * 4,
        ),
        # every output element reads as many weights as it has input channels and taps, wherever they lie
        (
            ops.deformable_convolution(
                image(1, 4, 9, 9), image(1, 18, 7, 7), weights(6, 4, 3, 3), [1, 1], [0, 0], [0, 0], [1, 1]
            ),
            6 * 7 * 7 * 4 * 9,
        ),
        (ops.matmul(image(5, 20), weights(30, 20), False, True), 5 * 20 * 30),
        (ops.matmul(image(20, 5), weights(20, 30), True, False), 5 * 20 * 30),
        (ops.matmul(image(8, 12, 64, 49), image(8, 12, 49, 32), False, False), 8 * 12 * 64 * 49 * 32),
        (ops.matmul(image(20), weights(20, 30), True, False), 20 * 30),
        (ops.relu(image(1, 3, 224, 224)), 0),
        (ops.add(image(1, 8, 4, 4), weights(1, 8, 1, 1)), 0),
    ],
)
def test_an_operation_costs_what_is_worked_out_by_hand(node, expected):
    assert multiply_adds(node) == expected


def test_weights_count_once_and_numbers_and_shapes_do_not():
    x = image(1, 3, 8, 8)
    shared = ops.constant(weights(4, 3, 1, 1))
    one = ops.convolution(x, shared, [1, 1], [0, 0], [0, 0], [1, 1])
    two = ops.convolution(ops.divide(x, np.float32(255)), shared, [1, 1], [0, 0], [0, 0], [1, 1])
    biased = ops.add(ops.add(one, two), weights(1, 4, 1, 1))
    flat = ops.reshape(biased, np.array([1, -1]), special_zero=False)
    model = ov.Model([ops.matmul(flat, weights(256, 10), False, False)], [x])
    parameters = 4 * 3 + 4 + 2560
    assert complexity(model) == Complexity(2 * 64 * 4 * 3 + 2560, parameters, 4 * parameters)


def test_quantised_weights_count_as_weights_and_take_a_byte_each():
    x = image(1, 16, 8, 8)
    integers = ops.convert(RANDOM.integers(-128, 127, (32, 16, 3, 3)).astype(np.int8), np.float32)
    real = ops.multiply(ops.subtract(integers, weights(32, 1, 1, 1)), weights(32, 1, 1, 1))
    limits = [np.full((1, 16, 1, 1), value, np.float32) for value in (-1, 1, -1, 1)]
    node = ops.convolution(ops.fake_quantize(x, *limits, 256), real, [1, 1], [0, 0], [0, 0], [1, 1])
    found = complexity(ov.Model([node], [x]))
    assert found.parameters == 32 * 16 * 9
    assert found.bytes == 32 * 16 * 9 + 2 * 32 * 4


def test_a_batch_normalisation_has_two_weights_a_channel():
    x = image(1, 8, 4, 4)
    node = ops.batch_norm_inference(x, weights(8), weights(8), weights(8), np.ones(8, np.float32), 1e-5)
    assert complexity(ov.Model([node], [x])).parameters == 16


def test_a_bias_whose_shape_is_read_from_the_data_is_a_weight():
    x = image(1, 3, 8, 8)
    y = ops.convolution(x, weights(4, 3, 1, 1), [1, 1], [0, 0], [0, 0], [1, 1])
    wide = ops.broadcast(weights(4, 1, 1), ops.shape_of(y))
    found = complexity(ov.Model([ops.add(y, wide)], [x]))
    assert found.bytes == 4 * (12 + 4)


def test_shapes_that_are_not_known_are_refused_with_the_name_of_the_operation():
    x = image(1, 3, -1, -1)
    node = ops.convolution(x, weights(4, 3, 1, 1), [1, 1], [0, 0], [0, 0], [1, 1])
    node.set_friendly_name("stem")
    with pytest.raises(ModelLoadError, match=r"stem has the shape .*reshape the model"):
        multiply_adds(node)
    with pytest.raises(ModelLoadError, match="stem"):
        complexity(ov.Model([node], [x]))


# MobileNet-V2 1.0: 300 M multiply-adds in its paper; MLPerf Tiny's ResNet-8 and person detector: 12.5 M with
# 78 k parameters, and 7.5 M with 0.2 M. The integer files have the same networks.
@pytest.mark.parametrize(
    ("name", "mega", "thousands"),
    [
        ("mobilenet_v2_1.0_224_quant.tflite", 300.8, 3489.1),
        ("resnet8_cifar10.tflite", 12.50, 77.71),  # its batch is dynamic: counted as 1
        ("vww_96_float.tflite", 7.490, 210.9),
        ("vww_96_int8.tflite", 7.490, 210.9),
    ],
)
def test_real_models_have_their_published_size(data_dir, name, mega, thousands):
    found = complexity(openvino_core().read_model(data_dir / "models" / name))
    assert found.multiply_adds / 1e6 == pytest.approx(mega, rel=1e-3)
    assert found.parameters / 1e3 == pytest.approx(thousands, rel=1e-3)
    assert found.bytes >= found.parameters


def test_a_dynamic_batch_is_left_dynamic(data_dir):
    model = openvino_core().read_model(data_dir / "models" / "resnet8_cifar10.tflite")
    complexity(model)
    assert model.inputs[0].get_partial_shape()[0].is_dynamic
