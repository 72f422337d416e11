"""Replaces custom operations of TensorFlow Lite in a graph by operations of OpenVINO."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from cpuserve.authoring.tflite_detection import detect
from cpuserve.authoring.tflite_operators import CustomOperator
from cpuserve.models.quantisation import Dequantise

__all__ = ["expand_operators"]

_SAME = 1  # of TensorFlow Lite's paddings

Expand = Callable[[Sequence[ov.Output], CustomOperator], list[ov.Output]]


def expand_operators(model: ov.Model, operators: Sequence[CustomOperator]) -> None:
    """Replaces the placeholders of operations that are known here; the outputs keep their names.

    Args:
        model: as imported with placeholders; it is changed.
        operators: the custom operations of the file.
    """
    by_name = {
        name: port
        for node in model.get_ordered_ops()
        if node.get_type_name() != "Result"
        for port in node.outputs()
        for name in port.get_names()
    }
    for operator in operators:
        expand = _KNOWN.get(operator.code)
        if expand is None:
            continue
        ports = [by_name[name] for name in operator.outputs]
        read = zip(ports[0].get_node().input_values(), operator.quantised, strict=True)
        made = expand([_real(value, how) for value, how in read], operator)
        for name, port, end in zip(operator.outputs, ports, made, strict=True):
            port.set_names(set())
            port.replace(end)
            end.set_names({name})
    model.validate_nodes_and_infer_types()


def _real(value: ov.Output, how: Dequantise | None) -> ov.Output:
    real = ops.convert(value, np.float32).output(0)
    if how is None or value.get_element_type().is_real():
        return real
    return ops.multiply(ops.subtract(real, np.float32(how.zero_point)), np.float32(how.scale)).output(0)


def _detect(inputs: Sequence[ov.Output], operator: CustomOperator) -> list[ov.Output]:
    from flatbuffers import flexbuffers  # noqa: PLC0415 - of the extra that read the operator

    encoded, scores, anchors = inputs
    return detect(encoded, scores, anchors, flexbuffers.Loads(operator.options))


def _deconvolve(inputs: Sequence[ov.Output], operator: CustomOperator) -> list[ov.Output]:
    """MediaPipe's transposed convolution with a bias, on [N, H, W, I] with weights [O, h, w, I]."""
    data, weights, bias = inputs
    padding, *strides = struct.unpack("<3i", operator.options[:12])
    strides = strides[::-1]  # stored as width, height
    kernel = [side.get_length() for side in list(weights.get_partial_shape())[1:3]]
    sizes = list(zip(kernel, strides, strict=True))
    over = [max(size - step, 0) if padding == _SAME else 0 for size, step in sizes]
    before = [side // 2 for side in over]
    result = ops.convolution_backprop_data(
        ops.transpose(data, np.array([0, 3, 1, 2])),
        ops.transpose(weights, np.array([3, 0, 1, 2])),
        strides,
        pads_begin=before,
        pads_end=[side - first for side, first in zip(over, before, strict=True)],
        # where the kernel is smaller than the step, nothing reaches the last rows and columns
        output_padding=[max(step - size, 0) for size, step in sizes],
    )
    return [ops.add(ops.transpose(result, np.array([0, 2, 3, 1])), bias).output(0)]


_KNOWN: Mapping[str, Expand] = {
    "TFLite_Detection_PostProcess": _detect,
    "Convolution2DTransposeBias": _deconvolve,
}
