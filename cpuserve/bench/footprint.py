"""Estimates how much memory running a network will take, before it is compiled; it allocates nothing."""

from __future__ import annotations

import math

import openvino as ov

__all__ = ["footprint_bytes"]

_PROCESS = 200 << 20  # Python, OpenVINO and its kernels
_WEIGHT_COPIES = 2  # the graph's own, and the ones the plugin lays out anew for its kernels


def footprint_bytes(model: ov.Model, batch: int) -> int:
    """The memory of a process that compiles and runs the model.

    The values between operations are counted while they are needed, in the order of execution: at its peak
    that is what a runtime that reuses its buffers must hold. They are counted in f32, which is what other
    precisions are converted from.

    Args:
        model: with static shapes, for a batch of 1.
        batch: images at once; values grow with it, weights do not.
    """
    return _PROCESS + _WEIGHT_COPIES * _weights(model) + batch * _peak(model)


def _weights(model: ov.Model) -> int:
    return sum(_size(node.output(0)) for node in model.get_ops() if node.get_type_name() == "Constant")


def _peak(model: ov.Model) -> int:
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() != "Constant"]
    last: dict[ov.Node, int] = {}
    for step, node in enumerate(nodes):
        for value in node.input_values():
            last[value.get_node()] = step
    live = peak = 0
    for step, node in enumerate(nodes):
        live += sum(_size(value) for value in node.outputs())
        peak = max(peak, live)
        for source in {value.get_node() for value in node.input_values()}:
            if last[source] == step and source.get_type_name() != "Constant":
                live -= sum(_size(value) for value in source.outputs())
    return peak


def _size(value: ov.Output) -> int:
    bits: int = value.get_element_type().get_bitwidth()
    shape: list[int] = list(value.get_shape())
    return math.prod(shape) * bits // 8
