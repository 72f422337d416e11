"""A specialised network of a few weights: how much of the query's region differs from an empty picture.

It needs far fewer labels than a network of convolutions, as long as the camera stands still.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cpuserve.serving.engine import Array
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.video.logistic import Logistic, fit_logistic
from cpuserve.video.picture_difference import BLOCKS
from cpuserve.video.region import Region
from cpuserve.video.scale import Scale
from cpuserve.video.specialised_cnn import CNN_SCALE, set_scale

if TYPE_CHECKING:
    import openvino as ov

__all__ = ["BACKGROUND", "train_background"]

BACKGROUND = "background"
"""Name of the network."""

_LEVELS = (8.0, 15.0, 25.0, 40.0, 60.0, 90.0)  # differences of 255 that pixels are counted from
_SOFT = 2.0  # a pixel counts half at its level: a sharp step would make rounding matter
_RANKS = (1, 3, 6)  # of the blocks that differ most
_MARGIN = 0.1  # around the region, of the picture: objects reach beyond it
_GAINS = (0.25, 4.0)
_DARK = 8.0  # of 255: the ratio of darker blocks is noise
_RIDGE = 1.0
_BATCH = 256


def train_background(
    pixels: Array,
    labels: Array,
    empty: Array,
    region: Region | None,
    path: Path,
    scale: Scale = CNN_SCALE,
) -> None:
    """Fits the network and writes it as IR: u8 [n, h, w, 3] in, probability f32 [n, 1] out.

    Args:
        pixels: u8 [n, h, w, 3]; h and w are multiples of 10.
        labels: bool [n], both values occur.
        empty: u8 [h, w, 3], the picture without the object.
        region: of the query; None for the whole picture.
        path: the ``.xml``; the ``.bin`` is written beside it.
        scale: what frames have to be scaled to, for the metadata.
    """
    import openvino as ov  # noqa: PLC0415  # takes long

    graph = _features(empty, region)
    request = openvino_core().compile_model(
        ov.Model([graph[1]], [graph[0]], "features"),
        *("CPU", {"INFERENCE_PRECISION_HINT": "f32"}),
    )
    parts = [request(pixels[start : start + _BATCH])[0] for start in range(0, len(pixels), _BATCH)]
    weights = fit_logistic(np.concatenate(parts), labels, ridge=_RIDGE)
    model = _whole(*_features(empty, region), weights)
    set_scale(model, scale)
    ov.save_model(model, path, compress_to_fp16=False)


def _features(empty: Array, region: Region | None) -> tuple[Any, Any]:
    """The input, and f32 [n, 10] of it."""
    import openvino.opset13 as ops  # noqa: PLC0415  # takes long
    from openvino import Type  # noqa: PLC0415

    height, width = empty.shape[:2]
    block = [height // BLOCKS, width // BLOCKS]
    pixels = ops.parameter([-1, height, width, 3], Type.u8, name="pixels")
    pixels.get_output_tensor(0).set_names({"pixels"})
    values = ops.transpose(ops.convert(pixels, Type.f32), np.array([0, 3, 1, 2]))
    before = empty.astype(np.float32).transpose(2, 0, 1)[None]
    residual = ops.subtract(values, ops.multiply(_gain(ops, values, before, block), before))
    top, bottom, left, right = _blocks(region)
    rows, columns = (top * block[0], bottom * block[0]), (left * block[1], right * block[1])
    ends = [np.array([one[place] for one in (rows, columns)]) for place in (0, 1)]
    part = ops.slice(residual, ends[0], ends[1], np.array([1, 1]), np.array([2, 3]))
    most = ops.reduce_max(ops.abs(part), np.array([1]), keep_dims=True)
    counts = [
        ops.reduce_sum(
            ops.sigmoid(ops.multiply(ops.subtract(most, np.float32(level)), np.float32(1 / _SOFT))),
            np.array([2, 3]),
        )
        for level in _LEVELS
    ]
    mean = ops.reduce_mean(ops.multiply(part, part), np.array([1, 2, 3]))
    pooled = ops.avg_pool(ops.multiply(most, most), block, [0, 0], [0, 0], block, exclude_pad=True)
    flat = ops.reshape(pooled, np.array([0, -1]), special_zero=True)
    found = (bottom - top) * (right - left)
    largest = _largest(ops, flat, min(_RANKS[-1], found))
    ranked = [ops.gather(largest, np.array([min(rank, found) - 1]), np.array(1)) for rank in _RANKS]
    columns_ = [*counts, ops.unsqueeze(mean, np.array(1)), *ranked]
    return pixels, ops.log(ops.add(ops.concat(columns_, 1), np.float32(1)))


def _gain(ops: Any, values: Any, before: Array, block: list[int]) -> Any:
    """What the empty picture is multiplied by to have the exposure of each frame, f32 [n, 1, 1, 1]."""
    means = before.mean(axis=1).reshape(BLOCKS, block[0], BLOCKS, block[1]).mean(axis=(1, 3)).reshape(-1)
    bright = np.flatnonzero(means > _DARK)
    if not len(bright):
        return np.ones((1, 1, 1, 1), np.float32)
    now = ops.reduce_mean(
        ops.avg_pool(values, block, [0, 0], [0, 0], block, exclude_pad=True), np.array([1]), keep_dims=False
    )
    now = ops.gather(ops.reshape(now, np.array([0, -1]), special_zero=True), bright, np.array(1))
    ratio = ops.divide(now, means[bright].astype(np.float32)[None])
    middle = len(bright) // 2
    median = ops.gather(_largest(ops, ratio, middle + 1), np.array([middle]), np.array(1))
    return ops.reshape(ops.clamp(median, *_GAINS), np.array([-1, 1, 1, 1]), special_zero=False)


def _largest(ops: Any, values: Any, count: int) -> Any:
    """The largest values of [n, m], descending, [n, count]."""
    return ops.topk(values, np.array(count), 1, "max", "value").output(0)


def _blocks(region: Region | None) -> tuple[int, int, int, int]:
    """First row of blocks around a region, the one behind the last, and the same of columns."""
    if region is None:
        return 0, BLOCKS, 0, BLOCKS
    corners = np.array(region.corners)
    low = np.floor((corners.min(axis=0) - _MARGIN) * BLOCKS + 1e-6).clip(0, BLOCKS - 1).astype(int)
    high = np.ceil((corners.max(axis=0) + _MARGIN) * BLOCKS - 1e-6).clip(1, BLOCKS).astype(int)
    return int(low[1]), int(high[1]), int(low[0]), int(high[0])


def _whole(pixels: Any, features: Any, weights: Logistic) -> ov.Model:
    import openvino.opset13 as ops  # noqa: PLC0415  # takes long
    from openvino import Model  # noqa: PLC0415

    factors = weights.weights / weights.scale
    bias = weights.bias - float(weights.mean @ factors)
    total = ops.matmul(features, factors.astype(np.float32)[:, None], False, False)
    answer = ops.sigmoid(ops.add(total, np.float32(bias)))
    answer.get_output_tensor(0).set_names({"probability"})
    return Model([answer], [pixels], "specialised")
