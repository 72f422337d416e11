"""GoogLeNet (Szegedy et al., 2014) as Caffe has it, without the two classifiers that only training uses."""

from __future__ import annotations

import openvino as ov

from cpuserve.authoring.zoo.layers import Layers

__all__ = ["googlenet"]

_STAGES = [
    [(64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)],
    [
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ],
    [(256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)],
]
"""Channels of each module: 1x1, 3x3 reduced, 3x3, 5x5 reduced, 5x5, behind the pooling."""


def googlenet(net: Layers) -> ov.Output:
    """Nine inception modules in three stages behind a plain stem."""
    x = net.relu(net.conv(net.image, 64, 7, stride=2, pad=3))
    x = net.response_norm(net.max_pool(x, 3, 2))
    x = net.relu(net.conv(x, 64, 1))
    x = net.response_norm(net.relu(net.conv(x, 192, 3, pad=1)))
    for modules in _STAGES:
        x = net.max_pool(x, 3, 2)
        for channels in modules:
            x = _inception(net, x, *channels)
    return net.dense(net.mean(x), 1000)


def _inception(net: Layers, x: ov.Output, *channels: int) -> ov.Output:
    one, to3, three, to5, five, pool = channels
    return net.concat(
        net.relu(net.conv(x, one, 1)),
        net.relu(net.conv(net.relu(net.conv(x, to3, 1)), three, 3, pad=1)),
        net.relu(net.conv(net.relu(net.conv(x, to5, 1)), five, 5, pad=2)),
        net.relu(net.conv(net.max_pool(x, 3, 1, pad=1), pool, 1)),
    )
