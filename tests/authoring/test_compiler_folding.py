"""What the compiler has folded is read from what it runs, for real models and for small ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.authoring.compiler_folding import Folding, folding
from cpuserve.serving.openvino_core import openvino_core

EXACT = {"INFERENCE_PRECISION_HINT": "f32"}


def of(model: ov.Model) -> Folding:
    return folding(model, openvino_core().compile_model(model, "CPU", EXACT))


def values(*shape: int) -> Any:
    return np.random.default_rng(0).random(shape, np.float32) + 0.5


@pytest.mark.parametrize(
    ("file", "norms"),
    [
        ("mobilenet_v2_1.0_224_frozen.pb", 52),  # 52 FusedBatchNorm in the TensorFlow graph
        ("mobilenet_v1_0.25_128_frozen.pb", 27),
        ("deeplabv3_mnv2_dm05_257_frozen.pb", 54),  # ten of them behind a BatchToSpace
        ("resnet8_cifar10.tflite", 0),  # merged before it was saved
    ],
)
def test_the_batch_norms_of_real_models_are_merged(data_dir: Path, file: str, norms: int):
    model = openvino_core().read_model(data_dir / "models" / file)
    model.reshape([1, *[side.get_length() for side in list(model.input(0).partial_shape)[1:]]])
    found = of(model)
    assert (found.batch_norms, found.batch_norms_merged) == (norms, norms)
    assert found.executed < found.operations
    assert found.fused["Add"] >= norms > 0 or not norms
    assert found.reorders


def test_a_batch_norm_that_another_reads_is_found_unmerged():
    data = ops.parameter([1, 3, 8, 8], np.float32, name="data")
    conv = ops.convolution(data, values(4, 3, 3, 3), [1, 1], [0, 0], [0, 0], [1, 1], name="conv")
    norm = ops.batch_norm_inference(conv, *(values(4) for _ in range(4)), 1e-3)
    norm.set_friendly_name("norm")
    merged = of(ov.Model([ops.relu(norm)], [data], "m"))
    assert (merged.batch_norms, merged.batch_norms_merged) == (1, 1)
    other = ops.parameter([1, 3, 8, 8], np.float32, name="data")
    pooled = ops.max_pool(other, [1, 1], [1, 1], [0, 0], [0, 0], [2, 2])
    norm = ops.batch_norm_inference(pooled.output(0), *(values(3) for _ in range(4)), 1e-3)
    norm.set_friendly_name("norm")
    alone = of(ov.Model([ops.softmax(norm, 1)], [other], "m"))
    assert (alone.batch_norms, alone.batch_norms_merged) == (1, 0)


def test_what_does_not_depend_on_the_input_is_constant():
    data = ops.parameter([1, 4], np.float32, name="data")
    weights = ops.transpose(ops.convert(ops.constant(values(4, 5).astype(np.float16)), "f32"), [1, 0])
    found = of(ov.Model([ops.relu(ops.matmul(data, weights, False, True))], [data], "m"))
    assert found.operations == 4
    assert found.constants == 2
    assert found.fused == {"Relu": 1}


def test_transposes_around_a_convolution_do_not_run():
    data = ops.parameter([1, 8, 8, 3], np.float32, name="data")
    conv = ops.convolution(
        ops.transpose(data, [0, 3, 1, 2]), values(4, 3, 3, 3), [1, 1], [0, 0], [0, 0], [1, 1]
    )
    found = of(ov.Model([ops.transpose(conv, [0, 2, 3, 1])], [data], "m"))
    assert (found.transposes, found.transposes_left) == (2, 0)
    assert sum(found.reorders.values()) >= 1
