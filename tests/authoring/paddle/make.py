"""Writes tiny.pdmodel and tiny.pdiparams beside it, with PaddlePaddle 3.3.1 in an environment of its own."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

os.environ["FLAGS_enable_pir_api"] = "0"  # noqa: SIM112 - its name; the format that OpenVINO reads
frames = [traceback.FrameSummary("make.py", 1, "main", line="main()")] * 9
traceback.extract_stack = lambda *_, **__: frames  # type: ignore[assignment] # no paths in it

import numpy as np  # noqa: E402
import paddle  # type: ignore[import-not-found]  # noqa: E402


def main() -> None:
    """A convolution, a batch normalisation and a classifier of five classes for 8x8 pictures."""
    paddle.enable_static()
    paddle.seed(0)
    program, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(program, startup):
        x = paddle.static.data("x", [-1, 3, 8, 8], "float32")
        features = paddle.static.nn.conv2d(x, 4, 3, padding=1)
        features = paddle.nn.functional.relu(paddle.static.nn.batch_norm(features, is_test=True))
        pooled = paddle.nn.functional.adaptive_avg_pool2d(features, 1)
        y = paddle.nn.functional.softmax(paddle.flatten(paddle.static.nn.conv2d(pooled, 5, 1), 1))
    executor = paddle.static.Executor(paddle.CPUPlace())
    executor.run(startup)
    picture = np.linspace(0, 1, 192, dtype=np.float32).reshape(1, 3, 8, 8)
    sys.stdout.write(f"{executor.run(program, feed={'x': picture}, fetch_list=[y])[0].tolist()}\n")
    paddle.static.save_inference_model(
        str(Path(__file__).with_name("tiny")), [x], [y], executor, program=program
    )


if __name__ == "__main__":
    main()
