"""Trains specialised networks on labelled frames, and writes them as OpenVINO IR."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cpuserve.errors import UsageError
from cpuserve.serving.engine import Array
from cpuserve.video.cnn_learner import CnnLearner, Trainer, make_learner
from cpuserve.video.numpy_cnn import NumpyCnn
from cpuserve.video.scale import Scale
from cpuserve.video.specialised_cnn import CNN_SCALE, set_scale

if TYPE_CHECKING:
    import openvino as ov

__all__ = ["SIZES", "CnnSize", "TrainedCnn", "check_both_classes", "train_cnn", "write_ir"]

_EPOCHS = 40
_PATIENCE = 8  # epochs without a better loss on the frames held out
_NOTHING_TO_GAIN = 1e-3  # mean log loss of frames held out
_BATCH = 32
_EPOCH_FRAMES = 4000  # of longer clips each epoch sees so many frames, taken at random
_DROPOUT = 0.5
_GAIN = 0.3  # pictures are made up to so much brighter or darker, as cameras do
_BLOCKS, _HELD_OUT = 16, (3, 7, 11, 15)  # contiguous parts of the clip
_LEAST = 20  # frames of each class


@dataclass(frozen=True)
class CnnSize:
    """How large a specialised network is.

    Attributes:
        name: in the cascade.
        filters: of its first convolution.
        dense: width of its dense layer.
    """

    name: str
    filters: int
    dense: int


SIZES = (CnnSize("small", 8, 32), CnnSize("medium", 16, 64))


@dataclass(frozen=True)
class TrainedCnn:
    """A trained network and how its training went.

    Attributes:
        network: with the weights of the best epoch.
        epochs: that were run.
        loss: of the best epoch, over the frames held out; over all where too few of a class were held out.
    """

    network: NumpyCnn
    epochs: int
    loss: float


def check_both_classes(labels: Array, labelled_minutes: float = 0.0) -> None:
    """Refuses labels that teach nothing.

    Args:
        labels: bool [n].
        labelled_minutes: of video, to say how many more to label; 0 says nothing of it.

    Raises:
        UsageError: there are too few frames with the object, or without it.
    """
    positives = int(labels.sum())
    for count, what in ((positives, "with the object"), (len(labels) - positives, "without it")):
        if count >= _LEAST:
            continue
        advice = f"none was seen {what}: label a time that has some"
        if count and labelled_minutes:
            more = math.ceil(10 * labelled_minutes * (_LEAST / count - 1)) / 10
            advice = f"label {more:g} more minutes of such video"
        elif count:
            advice = "label more of the video"
        raise UsageError(
            f"{count} of {len(labels)} labelled training frames are {what}: a specialised network needs "
            f"at least {_LEAST}; {advice}, or ask another query"
        )


def train_cnn(
    pixels: Array,
    labels: Array,
    size: CnnSize,
    *,
    seed: int = 0,
    trainer: Trainer = "numpy",
    report: Callable[[int, int], None] | None = None,
) -> TrainedCnn:
    """Trains a network; the same arguments give the same one on the same machine.

    A quarter of the clip, in four pieces, is held out and says which epoch was the best.

    Args:
        pixels: u8 [n, h, w, c], in order of time.
        labels: bool [n].
        size: how large.
        seed: of weights, order and dropout.
        trainer: who changes the weights.
        report: called with the epochs that are done and their most.

    Raises:
        UsageError: there are too few frames of a class.
        MissingExtra: the package of the trainer is not installed.
    """
    check_both_classes(labels)
    fitted, held = _split(labels)
    mean = pixels[fitted].mean(axis=0, dtype=np.float64).astype(np.float32) / 255
    network = NumpyCnn.made(mean.astype(np.float32), size.filters, size.dense, seed)
    random = np.random.default_rng(seed)
    learner = make_learner(trainer, network)
    best, best_loss, best_epoch = network, np.inf, 0
    epoch = 0
    for epoch in range(1, _EPOCHS + 1):
        _run_epoch(learner, pixels, labels, fitted, size.dense, random)
        network = learner.network()
        loss = _balanced_loss(network, pixels[held], labels[held])
        if report is not None:
            report(epoch, _EPOCHS)
        if loss < best_loss:
            best, best_loss, best_epoch = network, loss, epoch
        if best_loss < _NOTHING_TO_GAIN or epoch - best_epoch >= _PATIENCE:
            break
    return TrainedCnn(best, epoch, float(best_loss))


def write_ir(network: NumpyCnn, path: Path, scale: Scale = CNN_SCALE) -> None:
    """Writes a network as IR: u8 [n, h, w, c] in, probability f32 [n, 1] out.

    Args:
        network: trained.
        path: the ``.xml``; the ``.bin`` is written beside it.
        scale: what frames have to be scaled to, for the metadata.
    """
    import openvino as ov  # noqa: PLC0415  # takes long

    model = _graph(network)
    set_scale(model, scale)
    means = ",".join(f"{value:.6f}" for value in network.mean.mean(axis=(0, 1)))
    model.set_rt_info(means, ["cpuserve_video", "channel_means"])
    ov.save_model(model, path, compress_to_fp16=False)


def _split(labels: Array) -> tuple[Array, Array]:
    """Rows to learn from and rows held out, in order of time; both are all rows where one lacks a class."""
    block = np.arange(len(labels)) * _BLOCKS // len(labels)
    out = np.isin(block, _HELD_OUT)
    fitted, held = np.flatnonzero(~out), np.flatnonzero(out)
    if all(0 < labels[rows].sum() < len(rows) for rows in (fitted, held)):
        return fitted, held
    everything = np.arange(len(labels))
    return everything, everything


def _run_epoch(
    learner: CnnLearner,
    pixels: Array,
    labels: Array,
    fitted: Array,
    dense: int,
    random: np.random.Generator,
) -> None:
    order = random.permutation(fitted)[:_EPOCH_FRAMES]
    positives = labels[fitted].mean()
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        gains = random.uniform(1 - _GAIN, 1 + _GAIN, (len(rows), 1, 1, 1)).astype(np.float32)
        keep = (random.random((len(rows), dense)) >= _DROPOUT).astype(np.float32) / np.float32(1 - _DROPOUT)
        wanted = labels[rows]
        share = np.where(wanted, 0.5 / positives, 0.5 / (1 - positives)).astype(np.float32)
        learner.step(np.minimum(pixels[rows] * gains, 255), wanted, share, keep)


def _balanced_loss(network: NumpyCnn, pixels: Array, labels: Array) -> float:
    """Mean log loss of both classes, each counting half."""
    found = np.clip(network.probability(pixels).astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-(np.log(found[labels]).mean() + np.log(1 - found[~labels]).mean()) / 2)


def _graph(network: NumpyCnn) -> ov.Model:
    import openvino.opset13 as ops  # noqa: PLC0415  # takes long
    from openvino import Model, Type  # noqa: PLC0415

    weights = network.weights
    height, width, channels = network.mean.shape
    pixels = ops.parameter([-1, height, width, channels], Type.u8, name="pixels")
    pixels.get_output_tensor(0).set_names({"pixels"})
    values = ops.multiply(ops.convert(pixels, Type.f32), np.float32(1 / 255))
    node = ops.transpose(ops.subtract(values, network.mean[None]), np.array([0, 3, 1, 2]))
    for place in range(3):
        weight, bias = weights[f"conv{place}"], weights[f"conv{place}.bias"]
        kernel = weight.reshape(3, 3, -1, weight.shape[1]).transpose(3, 2, 0, 1)
        node = ops.convolution(node, np.ascontiguousarray(kernel), [2, 2], [1, 1], [1, 1], [1, 1])
        node = ops.relu(ops.add(node, bias.reshape(1, -1, 1, 1)))
    node = ops.transpose(node, np.array([0, 2, 3, 1]))
    node = ops.reshape(node, np.array([-1, weights["dense"].shape[0]]), special_zero=False)
    node = ops.relu(ops.add(ops.matmul(node, weights["dense"], False, False), weights["dense.bias"]))
    node = ops.add(ops.matmul(node, weights["out"], False, False), weights["out.bias"])
    answer = ops.sigmoid(node)
    answer.get_output_tensor(0).set_names({"probability"})
    return Model([answer], [pixels], "specialised")
