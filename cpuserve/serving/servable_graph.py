"""Edits the graph of a model file so that it can be served: any batch size, real outputs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from cpuserve.models.card import Card
from cpuserve.models.exporter_metadata import ExporterMetadata
from cpuserve.models.quantisation import Dequantise
from cpuserve.serving.engine import port_of
from cpuserve.serving.graph import image_input, names_of, with_batch
from cpuserve.serving.picture_recipe import PictureRecipe, integer_recipe, source_recipe
from cpuserve.serving.postprocess import judge, output_evidence

__all__ = [
    "Servable",
    "class_count",
    "dequantise_output",
    "free_batch",
    "input_type",
    "make_servable",
    "output_quantisation",
    "source_card",
]


@dataclass(frozen=True)
class Servable:
    """What was done to the graph of a model file.

    Attributes:
        card: which is also in the graph.
        reasons: what the card has without anybody saying it, and why, one sentence each.
        dequantised: for each output, how its integers became real numbers; None: it was left alone.
    """

    card: Card
    reasons: tuple[str, ...]
    dequantised: tuple[Dequantise | None, ...]


def make_servable(model: ov.Model, metadata: ExporterMetadata, said: Mapping[str, Any]) -> Servable:
    """Does what every model file needs before it is served or published: free batch, real outputs, card.

    Args:
        model: as OpenVINO read it; it is changed.
        metadata: what its exporter wrote.
        said: fields of the card that the user says; they win over all others.

    Raises:
        ModelLoadError: the card in the graph, or what is said of it, cannot be meant.
    """
    recipe = source_card(model, metadata, said)
    recipe.card.write(model)
    return Servable(recipe.card, recipe.reasons, _served_as_real(model))


def source_card(model: ov.Model, metadata: ExporterMetadata, said: Mapping[str, Any]) -> PictureRecipe:
    """The card of a model file: what the user says, else its own or its exporter's metadata, else its habit.

    Args:
        model: its graph.
        metadata: what its exporter wrote.
        said: fields of the card that the user says.

    Raises:
        ModelLoadError: the card in the graph, or what is said of it, cannot be meant.
    """
    card = dataclasses.replace(Card.read(model), **{**metadata.said, **said})
    if metadata.framework == "ir":
        return PictureRecipe(integer_recipe(model, card))
    reasons: tuple[str, ...] = ()
    classes = class_count(model, card.model_type.lower())
    if "labels" not in said and card.labels and classes not in (None, len(card.labels)):
        reasons = (f"the {len(card.labels)} labels of {metadata.title} are left out: {classes} classes",)
        card = dataclasses.replace(card, labels=())
    recipe = source_recipe(model, card, {*metadata.said, *said}, metadata, _judged_type(model, card))
    return PictureRecipe(recipe.card, reasons + recipe.reasons)


def input_type(model: ov.Model) -> str:
    """The element type of an only input, in OpenVINO's word; empty for several."""
    return str(model.input(0).element_type.get_type_name()) if len(model.inputs) == 1 else ""


def class_count(model: ov.Model, kind: str) -> int | None:
    """The number of classes of a classification; None for other models and variable shapes.

    Args:
        model: the graph.
        kind: the model type, in small letters; empty where nobody said it.
    """
    shape = model.output(0).partial_shape
    if len(model.outputs) != 1 or shape.rank.is_dynamic or len(shape) < 2:
        return None
    sides = [shape[index] for index in range(1, len(shape))]
    if any(side.is_dynamic for side in sides):
        return None
    lengths = [side.get_length() for side in sides if side.get_length() != 1]
    if not lengths:  # one score: of the second of two classes, or of the only one
        return None
    return math.prod(lengths) if kind == "classification" or (not kind and len(lengths) == 1) else None


def _judged_type(model: ov.Model, card: Card) -> str:
    """The model type that the outputs show, for the colour order that its own code takes; often empty."""
    source = image_input(model, card)
    single = None if source is None or card.model_type else with_batch(model, 1)
    if source is None or single is None:
        return ""
    outputs = [port_of(tuple(names_of(port)), port, batched=True) for port in single.outputs]
    return judge(outputs, output_evidence(single), len(card.labels), source.width, source.height).model_type


def _served_as_real(model: ov.Model) -> tuple[Dequantise | None, ...]:
    """Frees the batch and dequantises the outputs; says for each output how, None where it was left alone."""
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
