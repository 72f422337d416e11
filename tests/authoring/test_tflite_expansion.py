"""MediaPipe's transposed convolution gives what TensorFlow Lite's runtime gives."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from cpuserve.authoring.source import read_source
from cpuserve.serving.openvino_core import openvino_core
from tests.tflite_files import TfliteFile

SAME, VALID = 1, 2


def deconvolution(file: Path, kernel: tuple[int, int], strides: tuple[int, int], padding: int) -> Path:
    dice, made = np.random.default_rng(5), TfliteFile()
    x = made.tensor("x", [1, 5, 6, 3])
    weights = made.constant("w", dice.normal(size=(2, *kernel, 3)).astype(np.float32))
    bias = made.constant("bias", np.array([1, -1], np.float32))
    given = zip((5, 6), kernel, strides, strict=True)
    sides = [
        side * step if padding == SAME else side * step + max(size - step, 0) for side, size, step in given
    ]
    y = made.tensor("y", [1, *sides, 2])
    made.custom(
        "Convolution2DTransposeBias",
        [x, weights, bias],
        [y],
        raw=struct.pack("<3i", padding, strides[1], strides[0]),
    )
    return made.save(file, [x], [y])


@pytest.mark.parametrize("padding", [SAME, VALID], ids=["same", "valid"])
@pytest.mark.parametrize(
    ("kernel", "strides"), [((2, 2), (2, 2)), ((3, 3), (2, 2)), ((4, 3), (2, 1)), ((3, 2), (1, 2))]
)
def test_it_answers_as_tensorflow_lite(tmp_path, kernel, strides, padding):
    file = deconvolution(tmp_path / "net.tflite", kernel, strides, padding)
    row = np.random.default_rng(1).normal(size=(1, 5, 6, 3)).astype(np.float32)
    theirs = Interpreter(str(file))
    theirs.allocate_tensors()
    theirs.set_tensor(theirs.get_input_details()[0]["index"], row)
    theirs.invoke()
    expected = theirs.get_tensor(theirs.get_output_details()[0]["index"])
    model = read_source(str(file)).model
    assert model.output(0).get_any_name() == "y"
    found = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(row)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
