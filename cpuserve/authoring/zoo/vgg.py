"""VGG 16 and 19 (Simonyan and Zisserman, 2014): 3x3 convolutions and three large dense layers."""

from __future__ import annotations

import openvino as ov

from cpuserve.authoring.zoo.layers import Layers

__all__ = ["vgg"]


def vgg(net: Layers, convolutions: tuple[int, int, int, int, int]) -> ov.Output:
    """Five stages; ``convolutions`` says how many each has before it is pooled."""
    x = net.image
    for channels, count in zip((64, 128, 256, 512, 512), convolutions, strict=True):
        for _ in range(count):
            x = net.relu(net.conv(x, channels, 3, pad=1))
        x = net.max_pool(x, 2, 2)
    x = net.relu(net.dense(x, 4096))
    return net.dense(net.relu(net.dense(x, 4096)), 1000)
