"""ShuffleNet (Zhang et al., 2017), width 1 with 3 groups."""

from __future__ import annotations

import openvino as ov

from cpuserve.authoring.zoo.layers import Layers

__all__ = ["shufflenet"]

_GROUPS = 3
_STAGES = [(240, 4), (480, 8), (960, 4)]
"""Channels and units of each stage; the first unit of each halves the size."""

_BRANCH_GAIN = 0.2  # of a unit's last normalisation: units that add up in full would saturate the answer


def shufflenet(net: Layers) -> ov.Output:
    """Sixteen units whose 1x1 convolutions are grouped too, with channels shuffled between."""
    x = net.relu(net.conv_norm(net.image, 24, 3, stride=2, pad=1))
    x = net.max_pool(x, 3, 2)
    inputs = 24
    for channels, units in _STAGES:
        # the shortcut of a halving unit is pooled and put beside what the unit makes, so it makes less
        made = _unit(net, x, channels - inputs, stride=2, first=inputs == 24)
        x = net.relu(net.concat(net.avg_pool(x, 3, 2), made))
        for _ in range(units - 1):
            x = net.relu(net.add(x, _unit(net, x, channels)))
        inputs = channels
    return net.conv(net.mean(x), 1000, 1)


def _unit(net: Layers, x: ov.Output, channels: int, stride: int = 1, *, first: bool = False) -> ov.Output:
    # 24 channels are too few to be grouped: the very first unit is not, and has nothing to shuffle
    width = channels // 4
    y = net.relu(net.conv_norm(x, width, 1, groups=1 if first else _GROUPS))
    y = y if first else net.shuffle(y, _GROUPS)
    y = net.conv_norm(y, width, 3, stride=stride, pad=1, groups=width)
    return net.norm(net.conv(y, channels, 1, groups=_GROUPS, bias=False), gain=_BRANCH_GAIN)
