"""The estimate of memory grows with what a network holds."""

from __future__ import annotations

import itertools

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from cpuserve.authoring.zoo.networks import build_network
from cpuserve.bench.networks_process import footprint_bytes


def chain(*channels):
    """1x1 convolutions over 100x100 that turn each number of channels into the next."""
    x = ops.parameter([1, channels[0], 100, 100], np.float32)
    y = x.output(0)
    for before, after in itertools.pairwise(channels):
        weights = ops.constant(np.zeros((after, before, 1, 1), np.float32))
        y = ops.convolution(y, weights, [1, 1], [0, 0], [0, 0], [1, 1]).output(0)
    return ov.Model([y], [x])


def test_values_count_while_they_are_needed_and_weights_twice():
    model = chain(1, 4, 2, 2)
    plane, weights = 100 * 100 * 4, 4 * (4 + 8 + 4)
    # the widest moment: 4 planes are read while 2 are written; the input is gone by then
    assert footprint_bytes(model, 7) - footprint_bytes(model, 6) == 6 * plane
    assert footprint_bytes(model, 1) - footprint_bytes(chain(1, 4, 2), 1) == 2 * (weights - 4 * 12)


def test_a_shortcut_is_held_until_it_is_added():
    x = ops.parameter([1, 1, 100, 100], np.float32)
    branch = ops.relu(ops.relu(ops.relu(x)))
    model = ov.Model([ops.add(x, branch)], [x])
    assert footprint_bytes(model, 2) - footprint_bytes(model, 1) == 3 * 100 * 100 * 4


def test_values_of_a_large_batch_outweigh_the_rest():
    model = build_network("squeezenet_v1.1")
    assert 200 << 20 < footprint_bytes(model, 1) < 300 << 20
    assert footprint_bytes(model, 128) > 4 * footprint_bytes(model, 1)
