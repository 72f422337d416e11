"""A small convolutional network with fixed random weights, to be cut behind its stem; it trains nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from cpuserve.models.card import Card
from cpuserve.models.parts import Part
from cpuserve.models.repository import Repository
from cpuserve.models.whole import Whole
from cpuserve.serving.cutting import Order, cut_and_publish
from cpuserve.serving.engine import Array
from cpuserve.settings import load

__all__ = ["CUT", "WHOLE", "publish", "weights"]

WHOLE, CUT = "stem_whole", "stem_cut"
"""The names of the two models: all in OpenVINO, and with the stem in PyTorch."""

_SIDE, _CLASSES = 224, 10
_STEM = ((3, 32, 2), (32, 32, 1), (32, 64, 2))  # channels in, channels out, stride of 3x3 convolutions


def weights() -> list[tuple[Array, int]]:
    """Kernels of the stem, f32 [out, in, 3, 3], each with its stride; a ReLU follows each."""
    dice = np.random.default_rng(0)
    return [
        (
            (dice.standard_normal((out, into, 3, 3)) * np.sqrt(2 / (9 * into))).astype(np.float32),
            stride,
        )
        for into, out, stride in _STEM
    ]


def publish(folder: Path, threads: int) -> Repository:
    """A repository with the network, whole and cut: `cpuserve.bench.torch_head` is the head of the latter.

    Args:
        folder: where to.
        threads: for the comparison of the two.

    Raises:
        ModelLoadError: PyTorch is not installed, or the two do not answer alike.
    """
    repository = Repository(folder)
    with repository.publish(WHOLE, 1) as version:
        ov.save_model(_graph(), version / "model.xml", compress_to_fp16=False)
    order = Order(CUT, ("features",), (), Part.parse("cpuserve.bench.torch_head:head"), Part.parse("ir"))
    cut_and_publish(
        Whole.find(WHOLE, repository), order, repository, load({"allow_callables": True}, environ={}), threads
    )
    return repository


def _graph() -> ov.Model:
    pixels = ops.parameter([-1, _SIDE, _SIDE, 3], np.float32, name="pixels")
    pixels.output(0).set_names({"pixels"})
    node = ops.transpose(pixels, np.array([0, 3, 1, 2]))
    for kernel, stride in weights():
        node = ops.relu(ops.convolution(node, kernel, [stride] * 2, [1, 1], [1, 1], [1, 1]))
    node.output(0).set_names({"features"})
    pooled = ops.reduce_mean(node, np.array([2, 3]), keep_dims=False)
    last = np.random.default_rng(1).standard_normal((_STEM[-1][1], _CLASSES)).astype(np.float32)
    answer = ops.softmax(ops.matmul(pooled, last, False, False), 1)
    answer.output(0).set_names({"scores"})
    model = ov.Model([ops.result(answer)], [pixels], "stem")
    Card(
        model_type="Classification",
        labels=tuple(f"class {number}" for number in range(_CLASSES)),
        mean_values=(127.5,),
        scale_values=(127.5,),
        reverse_input_channels=True,
    ).write(model)
    return model
