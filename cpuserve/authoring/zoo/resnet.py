"""ResNet 50, 101 and 152 (He et al., 2015), strided as in the paper: in a block's first 1x1."""

from __future__ import annotations

import openvino as ov

from cpuserve.authoring.zoo.layers import Layers

__all__ = ["resnet"]

_BRANCH_GAIN = 0.1  # of a block's last normalisation: 50 blocks that add up full branches would overflow


def resnet(net: Layers, blocks: tuple[int, int, int, int]) -> ov.Output:
    """Four stages of bottleneck blocks; ``blocks`` says how many each has."""
    x = net.relu(net.conv_norm(net.image, 64, 7, stride=2, pad=3))
    x = net.max_pool(x, 3, 2)
    for stage, count in enumerate(blocks):
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            x = _bottleneck(net, x, 64 << stage, stride, widen=block == 0)
    return net.dense(net.mean(x), 1000)


def _bottleneck(net: Layers, x: ov.Output, width: int, stride: int, *, widen: bool) -> ov.Output:
    shortcut = net.conv_norm(x, 4 * width, 1, stride=stride) if widen else x
    y = net.relu(net.conv_norm(x, width, 1, stride=stride))
    y = net.relu(net.conv_norm(y, width, 3, pad=1))
    y = net.norm(net.conv(y, 4 * width, 1, bias=False), gain=_BRANCH_GAIN)
    return net.relu(net.add(shortcut, y))
