"""DenseNet 121 and 201 (Huang et al., 2016), growth 32, as Caffe computes them: pooled sizes round up."""

from __future__ import annotations

import openvino as ov

from cpuserve.authoring.zoo.layers import Layers

__all__ = ["densenet"]

_GROWTH = 32


def densenet(net: Layers, blocks: tuple[int, int, int, int]) -> ov.Output:
    """Four blocks in which every layer reads all before it; ``blocks`` says how many layers each has."""
    x = net.relu(net.conv_norm(net.image, 2 * _GROWTH, 7, stride=2, pad=3))
    x = net.max_pool(x, 3, 2, pad=1)
    channels = 2 * _GROWTH
    for number, layers in enumerate(blocks):
        for _ in range(layers):
            y = net.conv_norm(net.relu(net.norm(x)), 4 * _GROWTH, 1)
            x = net.concat(x, net.conv(net.relu(y), _GROWTH, 3, pad=1, bias=False))
        channels += layers * _GROWTH
        x = net.relu(net.norm(x))
        if number < len(blocks) - 1:
            channels //= 2
            x = net.avg_pool(net.conv(x, channels, 1, bias=False), 2, 2)
    return net.dense(net.mean(x), 1000)
