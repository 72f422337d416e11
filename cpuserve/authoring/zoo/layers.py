"""Layers with seeded random weights, of which the networks of the zoo are built.

Weights are drawn as in He et al., "Delving Deep into Rectifiers" (2015): normal, with variance 2 / inputs, so
that values neither grow nor vanish on their way through a deep network.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import openvino as ov
from openvino import opset13 as ops

__all__ = ["Layers"]

_WINDOW: dict[str, object] = {"rounding_type": "ceil", "auto_pad": "explicit"}
"""Caffe's pooling rounds the size up: a last window may hang over the edge."""

_BIAS = 0.01  # deviation of what is added a channel


class Layers:
    """Makes the layers of one network; every value is [batch, channels, height, width] in f32.

    Attributes:
        image: the input, 3 channels of 224x224; a batch of 1 until the model is reshaped.
    """

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self.image: ov.Output = ops.parameter([1, 3, 224, 224], np.float32, name="image").output(0)

    def conv(
        self,
        x: ov.Output,
        channels: int,
        kernel: int,
        stride: int = 1,
        pad: int = 0,
        groups: int = 1,
        bias: bool = True,
    ) -> ov.Output:
        """A convolution of ``kernel`` x ``kernel``; ``bias`` adds a number a channel."""
        window = ([stride] * 2, [pad] * 2, [pad] * 2, [1, 1])
        inputs = _channels(x) // groups
        if groups == 1:
            y = ops.convolution(x, self._he(inputs * kernel**2, channels, inputs, kernel, kernel), *window)
        else:
            shape = (groups, channels // groups, inputs, kernel, kernel)
            y = ops.group_convolution(x, self._he(inputs * kernel**2, *shape), *window)
        return self._add(y.output(0), channels) if bias else y.output(0)

    def norm(self, x: ov.Output, gain: float = 1.0) -> ov.Output:
        """A batch normalisation as it is at inference: a factor around ``gain`` and an addend a channel."""
        channels = _channels(x)
        factor = gain * self._random.uniform(0.9, 1.1, (1, channels, 1, 1)).astype(np.float32)
        return self._add(ops.multiply(x, factor).output(0), channels)

    def conv_norm(self, x: ov.Output, channels: int, kernel: int, **how: int) -> ov.Output:
        """A convolution without bias and the normalisation that follows it."""
        return self.norm(self.conv(x, channels, kernel, bias=False, **how))

    def dense(self, x: ov.Output, outputs: int) -> ov.Output:
        """A fully connected layer over all that ``x`` holds: [batch, outputs]."""
        if len(x.get_partial_shape()) > 2:
            x = ops.reshape(x, np.array([0, -1]), special_zero=True).output(0)
        inputs = x.get_partial_shape()[1].get_length()
        y = ops.matmul(x, self._he(inputs, outputs, inputs), False, True)
        return ops.add(y, self._constant((1, outputs), _BIAS)).output(0)

    def relu(self, x: ov.Output) -> ov.Output:
        """The part above zero."""
        return ops.relu(x).output(0)

    def max_pool(self, x: ov.Output, kernel: int, stride: int, pad: int = 0) -> ov.Output:
        """The largest of each window; the size is rounded up."""
        sides = ([stride] * 2, [1, 1], [pad] * 2, [pad] * 2, [kernel] * 2)
        return ops.max_pool(x, *sides, **_WINDOW).output(0)

    def avg_pool(self, x: ov.Output, kernel: int, stride: int) -> ov.Output:
        """The mean of each window; the size is rounded up."""
        sides = ([stride] * 2, [0, 0], [0, 0], [kernel] * 2)
        return ops.avg_pool(x, *sides, exclude_pad=True, **_WINDOW).output(0)

    def mean(self, x: ov.Output) -> ov.Output:
        """The mean of each channel."""
        return ops.reduce_mean(x, np.array([2, 3]), keep_dims=True).output(0)

    def add(self, x: ov.Output, y: ov.Output) -> ov.Output:
        """The sum of a block and its shortcut."""
        return ops.add(x, y).output(0)

    def concat(self, *parts: ov.Output) -> ov.Output:
        """The channels of all parts."""
        return ops.concat(list(parts), axis=1).output(0)

    def response_norm(self, x: ov.Output) -> ov.Output:
        """AlexNet's normalisation across 5 neighbouring channels."""
        return ops.lrn(x, np.array([1]), alpha=1e-4, beta=0.75, bias=1.0, size=5).output(0)

    def shuffle(self, x: ov.Output, groups: int) -> ov.Output:
        """The channels reordered so that each group gets some of every other."""
        return ops.shuffle_channels(x, 1, groups).output(0)

    def model(self, logits: ov.Output, name: str) -> ov.Model:
        """The network that ends in the probabilities of ``logits``, [batch, classes]."""
        flat = ops.reshape(logits, np.array([0, -1]), special_zero=True)
        result = ops.softmax(flat, axis=1)
        result.output(0).set_names({"probabilities"})
        self.image.set_names({"image"})
        return ov.Model([result], [self.image.get_node()], name)

    def _he(self, inputs: int, *shape: int) -> ov.Node:
        return self._constant(shape, math.sqrt(2 / inputs))

    def _constant(self, shape: tuple[int, ...], deviation: float) -> ov.Node:
        values = self._random.standard_normal(shape, np.float32)
        values *= np.float32(deviation)
        # made here: an operation that is given the array takes some twenty times as long
        return ops.constant(values, shared_memory=True)

    def _add(self, x: ov.Output, channels: int) -> ov.Output:
        return ops.add(x, self._constant((1, channels, 1, 1), _BIAS)).output(0)


Builder = Callable[[Layers], ov.Output]
"""What a family offers: the logits of a network, written in these layers."""


def _channels(x: ov.Output) -> int:
    return int(x.get_partial_shape()[1].get_length())
