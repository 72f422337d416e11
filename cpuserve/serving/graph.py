"""Prepares a model's graph for serving: its picture input, batch, layout, mean and scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
import openvino as ov
from openvino import Layout, Type
from openvino import opset13 as ops
from openvino.preprocess import PrePostProcessor

from cpuserve.errors import ModelLoadError, last_line
from cpuserve.models.port_names import names_of

if TYPE_CHECKING:
    from cpuserve.models.card import Card
    from cpuserve.models.cut_manifest import CutPort

__all__ = [
    "ImageInput",
    "batch_sizes",
    "image_graph",
    "image_input",
    "is_identity",
    "names_of",
    "one_picture",
    "pass_through",
    "unique_names",
    "with_batch",
]

_LARGEST_BATCH_PIXELS = 8 * 320 * 320


@dataclass(frozen=True)
class ImageInput:
    """The input a picture goes to.

    Attributes:
        name: tensor name.
        width: pixels.
        height: pixels.
        channels: 3, or 1 for a grey model.
        layout: "NHWC" or "NCHW", of the model itself; pictures are always sent as u8 NHWC.
    """

    name: str
    width: int
    height: int
    channels: int
    layout: str


def unique_names(ports: Sequence[ov.Output]) -> list[list[str]]:
    """The names of each port, the one to show first; no two ports show the same."""
    found: list[list[str]] = []
    shown: set[str] = set()
    for port in ports:
        names = names_of(port)
        first = next((name for name in names if name not in shown), None)
        numbered = (f"{names[0]}_{number}" for number in count(1))
        first = first or next(name for name in numbered if name not in shown)
        shown.add(first)
        found.append([first, *(name for name in names if name != first)])
    return found


def image_input(model: ov.Model, card: Card) -> ImageInput | None:
    """The picture input of a model, or None for a model that has none.

    A picture goes to a model with one input of four dimensions, of which one side has 1 or 3 channels and the
    other two are fixed. The layout comes from the metadata, else from the parameter, else from the shape.
    """
    if len(model.inputs) != 1:
        return None
    shape = model.input(0).partial_shape
    if shape.rank.is_dynamic or len(shape) != 4:
        return None
    dims = [shape[i].get_length() if shape[i].is_static else -1 for i in range(4)]
    layout = "".join(letter for letter in card.layout.upper() if letter.isalpha())
    if layout not in ("NHWC", "NCHW"):
        named = "".join(
            letter for letter in str(model.inputs[0].get_node().layout) if letter.isalpha()
        ).upper()
        layout = named if named in ("NHWC", "NCHW") else "NHWC" if dims[3] in (1, 3) else "NCHW"
    channels, height, width = (dims[3], dims[1], dims[2]) if layout == "NHWC" else (dims[1], dims[2], dims[3])
    if channels not in (1, 3) or height < 1 or width < 1:
        return None
    return ImageInput(names_of(model.input(0))[0], width, height, channels, layout)


def pass_through(ports: Sequence[CutPort]) -> ov.Model:
    """A graph that returns its inputs, so that a head that is not a graph can be prepared like one."""
    parameters = []
    for port in ports:
        parameter = ops.parameter(ov.PartialShape(list(port.shape)), port.element, port.names[0])
        parameter.output(0).get_tensor().set_names({*port.names})
        parameters.append(parameter)
    return ov.Model([ops.result(parameter) for parameter in parameters], parameters, "pass_through")


def is_identity(model: ov.Model) -> bool:
    """Whether the outputs of a model are its inputs, in order."""
    sources = [result.input_value(0).get_node() for result in model.get_results()]
    return bool(sources == model.get_parameters())


def image_graph(model: ov.Model, source: ImageInput, card: Card) -> ov.Model:
    """A copy of ``model`` that takes u8 [N, H, W, C] and applies mean, scale and layout itself.

    An IR with ``embedded_processing`` already does; it is copied as it is.
    """
    copy = model.clone()
    own_type = copy.input(0).element_type
    if card.embedded_processing and own_type == Type.u8 and source.layout == "NHWC":
        return copy
    steps = PrePostProcessor(copy)
    entry = steps.input(0)
    entry.tensor().set_element_type(Type.u8).set_layout(Layout("NHWC"))
    entry.model().set_layout(Layout(source.layout))
    mean, scale = list(card.mean_values), list(card.scale_values)
    if own_type != Type.u8 or mean or scale:
        entry.preprocess().convert_element_type(Type.f32)
    if mean:
        entry.preprocess().mean(mean if len(mean) > 1 else mean * source.channels)
    if scale:
        entry.preprocess().scale(scale if len(scale) > 1 else scale * source.channels)
    if own_type.is_integral_number() and (mean or scale):
        limits = np.iinfo(own_type.to_dtype())
        entry.preprocess().custom(lambda real: _whole(real, int(limits.min), int(limits.max)))
    if own_type != Type.f32:
        entry.preprocess().convert_element_type(own_type)
    try:
        return steps.build()
    except RuntimeError as error:
        raise ModelLoadError(f"input {source.name!r} does not take pictures: {last_line(error)}") from error


def _whole(real: ov.Output, low: int, high: int) -> ov.Output:
    """Rounds as quantisation does, and keeps within an integer type: a conversion would cut and wrap."""
    return ops.clamp(ops.round(real, "half_away_from_zero"), low, high).output(0)


def with_batch(model: ov.Model, batch: int) -> ov.Model | None:
    """A copy of ``model`` for exactly ``batch`` rows, or None where the graph does not allow it.

    Every input and output must have the batch as its first dimension: rows are cut out of it.
    """
    copy = model.clone()
    shapes = {}
    for port in copy.inputs:
        shape = port.partial_shape
        if shape.rank.is_dynamic or len(shape) < 1:
            return None
        shape[0] = batch
        shapes[port] = shape
    try:
        copy.reshape(shapes)
    except RuntimeError:
        return None
    for port in copy.outputs:
        shape = port.partial_shape
        if shape.is_dynamic or len(shape) < 1 or shape[0].get_length() != batch:
            return None
    if any(node.get_type_name() == "Interpolate" and _mixes_rows(node) for node in copy.get_ops()):
        return None
    return copy


def one_picture(model: ov.Model) -> ov.Model | None:
    """The graph with an input [1, ...] for one picture; None where its first side is another."""
    first = model.input(0).partial_shape[0]
    if first.is_static:
        return model if first.get_length() == 1 else None
    copy = model.clone()
    shape = copy.input(0).partial_shape
    shape[0] = 1
    try:
        copy.reshape(shape)
    except RuntimeError:
        return None
    return copy


def _mixes_rows(resize: ov.Node) -> bool:
    """Whether a reshape changes the number of rows, since a batch is written into its sizes.

    What follows may spread the one row over all again, so that the outputs do not tell.
    """
    before, after = resize.get_input_partial_shape(0), resize.get_output_partial_shape(0)
    return bool(before.is_static and after.is_static and before[0] != after[0])


def batch_sizes(model: ov.Model, largest: int, source: ImageInput | None) -> list[int]:
    """The batches to compile: 1, 2, 4, ... up to ``largest``, as far as the graph and the memory allow.

    Large pictures get fewer: a batch whose inputs hold more than about 0.8 million pixels never ran faster
    per picture, and its activations cost memory in every stream.
    """
    sizes, size = [1], 2
    while size <= largest:
        if source is not None and size * source.width * source.height > _LARGEST_BATCH_PIXELS:
            break
        if with_batch(model, size) is None:
            break
        sizes.append(size)
        size *= 2
    return sizes
