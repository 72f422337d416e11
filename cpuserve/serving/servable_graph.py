"""Edits the graph of a model file so that it can be served: any batch size, real outputs."""

from __future__ import annotations

import math

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from cpuserve.models.quantisation import Dequantise

__all__ = ["dequantise_output", "free_batch", "make_servable", "output_quantisation"]


def make_servable(model: ov.Model) -> tuple[Dequantise | None, ...]:
    """Does what every model file needs before it is served or published: a free batch, and real outputs.

    Args:
        model: as OpenVINO read it; it is changed.

    Returns:
        For each output, how its integers became real numbers; None where it was left alone.
    """
    free_batch(model)
    dequantised = tuple(output_quantisation(port) for port in model.outputs)
    for index, how in enumerate(dequantised):
        if how is not None:
            dequantise_output(model, how, index)
    return dequantised


def free_batch(model: ov.Model) -> None:
    """Lets the model be reshaped to other batches where batch 1 is written into a Reshape or an Interpolate.

    Only a Reshape of data whose first dimension is 1 to a constant shape that begins with 1, and an
    Interpolate to constant sizes of all dimensions, are changed: they then copy that dimension from the data.
    """
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind not in ("Reshape", "Interpolate"):
            continue
        data, target = node.input_value(0), node.input_value(1)
        if target.get_node().get_type_name() != "Constant" or not _batch_of_one(data):
            continue
        sizes = [int(size) for size in target.get_node().get_data()]
        if not sizes or sizes[0] != 1:
            continue
        if kind == "Reshape" and 0 not in sizes:
            free = ops.constant(np.array([0, *sizes[1:]], dtype=np.int64))
            reshaped = ops.reshape(data, free, special_zero=True)
            reshaped.set_friendly_name(node.get_friendly_name())
            node.output(0).replace(reshaped.output(0))
        elif kind == "Interpolate" and _resizes_to(node, sizes):
            batch = ops.gather(ops.shape_of(data, "i64"), np.array([0]), np.array(0))
            free = ops.concat([batch, ops.constant(np.array(sizes[1:], dtype=np.int64))], 0)
            node.input(1).replace_source_output(free.output(0))
    model.validate_nodes_and_infer_types()


def output_quantisation(port: ov.Output) -> Dequantise | None:
    """How the integers of an output stand for real numbers; None where the graph does not say.

    Importers of quantised models put a FakeQuantize before the conversion to integers: its input range is
    that of the real numbers, its output range that of the integers. Class ids have none.
    """
    if port.element_type.get_type_name() not in ("u8", "i8", "u16", "i16"):
        return None
    node = port.get_node()
    while node.get_type_name() in ("Result", "Convert", "Reshape", "Squeeze"):
        node = node.input_value(0).get_node()
    if node.get_type_name() != "FakeQuantize":
        return None
    limits = [value.get_node() for value in node.input_values()[1:]]
    if any(
        limit.get_type_name() != "Constant" or math.prod(limit.get_output_shape(0)) != 1 for limit in limits
    ):
        return None  # a scale a channel: left to whoever reads the integers
    low, high, lowest, highest = (float(limit.data.reshape(-1)[0]) for limit in limits)
    scale = (high - low) / (highest - lowest)
    return Dequantise(scale=scale, zero_point=round(lowest - low / scale))


def dequantise_output(model: ov.Model, how: Dequantise, index: int = 0) -> None:
    """Turns the integers of an output into f32 inside the graph; the output keeps its name."""
    result = model.get_results()[index]
    integers = result.input_value(0)
    real = ops.convert(integers, np.float32)
    if how.zero_point:
        real = ops.subtract(real, np.float32(how.zero_point))
    real = ops.multiply(real, np.float32(how.scale))
    result.input(0).replace_source_output(real.output(0))
    model.validate_nodes_and_infer_types()


def _resizes_to(node: ov.Node, sizes: list[int]) -> bool:
    """Whether an Interpolate has the sizes of all dimensions, in their order."""
    shape = node.get_output_partial_shape(0)
    return bool(
        node.get_attributes().get("shape_calculation_mode") == "sizes"
        and shape.is_static
        and [side.get_length() for side in shape] == sizes
    )


def _batch_of_one(data: ov.Output) -> bool:
    shape = data.get_partial_shape()
    return bool(shape.rank.is_static and len(shape) > 0 and shape[0].is_static and shape[0].get_length() == 1)
