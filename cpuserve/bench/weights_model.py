"""A model whose answer tells which weights it was loaded with: it multiplies by a matrix of one number."""

from __future__ import annotations

from pathlib import Path

import numpy as np

__all__ = ["BIN", "INPUTS", "OUTPUTS", "write_weights_model"]

BIN = "model.bin"
INPUTS = 2048
OUTPUTS = 512  # 4 MiB of weights: large enough to be read while only a part is written


def write_weights_model(folder: Path, value: float) -> None:
    """Write the model: f32 ``x`` [N, INPUTS] to f32 ``y`` [N, OUTPUTS], each the sum of x times the value.

    Args:
        folder: is made; gets ``model.xml`` and ``model.bin``.
        value: every weight; all values give files of the same size.
    """
    import openvino as ov  # noqa: PLC0415  # the benchmark's clients do without it
    from openvino import opset13 as ops  # noqa: PLC0415

    x = ops.parameter([-1, INPUTS], np.float32, name="x")
    weights = ops.constant(np.full((INPUTS, OUTPUTS), value, np.float32))
    y = ops.matmul(x, weights, transpose_a=False, transpose_b=False)
    model = ov.Model([ops.result(y, name="y")], [x], "weights")
    model.inputs[0].set_names({"x"})
    model.outputs[0].set_names({"y"})
    folder.mkdir(parents=True)
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)
