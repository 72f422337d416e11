"""MobileNet (Howard et al., 2017), width 1.0."""

from __future__ import annotations

import openvino as ov

from cpuserve.authoring.zoo.layers import Layers

__all__ = ["mobilenet"]

_BLOCKS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
"""Channels and stride of each depthwise convolution with the pointwise one behind it."""


def mobilenet(net: Layers) -> ov.Output:
    """The network of 28 layers: 13 times a 3x3 convolution a channel, then a 1x1 one across channels."""
    x = net.relu(net.conv_norm(net.image, 32, 3, stride=2, pad=1))
    inputs = 32
    for channels, stride in _BLOCKS:
        x = net.relu(net.conv_norm(x, inputs, 3, stride=stride, pad=1, groups=inputs))
        x = net.relu(net.conv_norm(x, channels, 1))
        inputs = channels
    return net.conv(net.mean(x), 1000, 1)
