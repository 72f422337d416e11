"""SqueezeNet 1.0 and 1.1 (Iandola et al., 2016) as their authors published them for Caffe."""

from __future__ import annotations

import openvino as ov

from cpuserve.authoring.zoo.layers import Layers

__all__ = ["squeezenet_v1_0", "squeezenet_v1_1"]

_FIRES = [(16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)]
"""Channels of each module: squeezed, and of either expansion."""


def squeezenet_v1_0(net: Layers) -> ov.Output:
    """The first: a 7x7 stem, pooled late; its last 1x1 convolution is padded, as published."""
    x = net.relu(net.conv(net.image, 96, 7, stride=2))
    return net.mean(net.relu(net.conv(_fires(net, x, before=(0, 3, 7)), 1000, 1, pad=1)))


def squeezenet_v1_1(net: Layers) -> ov.Output:
    """The second: a 3x3 stem, pooled early, for less than half the work."""
    x = net.relu(net.conv(net.image, 64, 3, stride=2))
    return net.mean(net.relu(net.conv(_fires(net, x, before=(0, 2, 4)), 1000, 1)))


def _fires(net: Layers, x: ov.Output, before: tuple[int, ...]) -> ov.Output:
    for number, (squeezed, expanded) in enumerate(_FIRES):
        if number in before:
            x = net.max_pool(x, 3, 2)
        x = net.relu(net.conv(x, squeezed, 1))
        x = net.concat(net.relu(net.conv(x, expanded, 1)), net.relu(net.conv(x, expanded, 3, pad=1)))
    return x
