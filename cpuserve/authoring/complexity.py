"""Counts the multiply-adds and weights of a graph from its shapes.

One multiply-add is one multiplication with its addition, as papers on vision networks count them ("FLOPs" in
most of their tables): of convolutions, deconvolutions and matrix products. Element-wise operations, pooling,
normalisation and activations count as nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import openvino as ov

from cpuserve.errors import ModelLoadError

__all__ = ["Complexity", "complexity", "multiply_adds", "with_static_batch"]

_CONVOLUTIONS = {"Convolution": 1, "GroupConvolution": 2, "DeformableConvolution": 1}
_DECONVOLUTIONS = {"ConvolutionBackpropData": 1, "GroupConvolutionBackpropData": 2}
"""Leading dimensions of the weights that do not multiply the work: (groups and) channels of the side that
is counted by its elements, the output of a convolution and the input of a deconvolution."""

_PRODUCTS = {*_CONVOLUTIONS, *_DECONVOLUTIONS, "MatMul"}
_ELEMENTWISE = {"Add", "Subtract", "Multiply", "Divide", "PRelu"}
_WEIGHT_PORTS = {"BatchNormInference": {1, 2}, "Gather": {0}}
"""gamma and beta of a batch normalisation (mean and variance are statistics); a table that is looked up."""

_RESHAPING = {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Broadcast", "Tile", "Gather", "Slice"}
"""Only their first input holds values; the others say how to arrange them."""


@dataclass(frozen=True)
class Complexity:
    """The size of a network, as papers state it.

    Attributes:
        multiply_adds: for the batch counted; see `multiply_adds`.
        parameters: elements of the weights; see `complexity`.
        bytes: size of those weights as stored, with scales and zero points of quantised ones.
    """

    multiply_adds: int
    parameters: int
    bytes: int


def multiply_adds(node: ov.Node) -> int:
    """The multiply-adds of one operation, for the batch that is in the graph.

    A convolution of output [N,O,H,W] and weights [O,I,h,w] costs N*O*H*W * I*h*w; a deconvolution the same
    with its input and [I,O,h,w] (what its padding cuts off is counted, as is customary); a product of
    [..,M,K] and [..,K,N] its output times K. Weights of groups have the groups in front.

    Returns:
        The count; 0 for every other operation.

    Raises:
        ModelLoadError: a shape is not static; reshape the model to the batch and size meant first.
    """
    kind = node.get_type_name()
    if kind in _CONVOLUTIONS:
        return math.prod(_shape(node.output(0))) * _reads(node, _CONVOLUTIONS[kind])
    if kind in _DECONVOLUTIONS:
        return math.prod(_shape(node.input_value(0))) * _reads(node, _DECONVOLUTIONS[kind])
    if kind == "MatMul":
        left = _shape(node.input_value(0))
        transposed = node.get_attributes()["transpose_a"] and len(left) > 1
        return math.prod(_shape(node.output(0))) * left[-2 if transposed else -1]
    return 0


def complexity(model: ov.Model) -> Complexity:
    """Counts a whole model; a dynamic batch is counted as 1.

    A parameter is an element of a weight: of what a convolution, a deconvolution, a matrix product, an
    element-wise +, -, *, / or PReLU, a batch normalisation (gamma and beta) or a table look-up reads and what
    does not depend on the model's input. A branch that can be computed beforehand counts once, at its end:
    int8 weights with their scale and zero point are as many parameters as weights. Not counted: shapes,
    axes, ranges of FakeQuantize, and single numbers such as the 255 of x / 255. A batch normalisation that an
    importer took apart into -, /, * and + counts with its statistics, which cannot be told from weights then.
    Bodies of loops and branches are not looked into.

    Raises:
        ModelLoadError: a shape is not static although the batch is; reshape the model first.
    """
    model = with_static_batch(model)
    constant: set[ov.Node] = set()
    weights: dict[tuple[ov.Node, int], ov.Output] = {}
    total = 0
    for node in model.get_ordered_ops():
        inputs = node.input_values()
        kind = node.get_type_name()
        if kind in {"Constant", "ShapeOf"} or (inputs and all(i.get_node() in constant for i in inputs)):
            constant.add(node)
            continue
        total += multiply_adds(node)
        for port, value in enumerate(inputs):
            if value.get_node() in constant and _is_weight(kind, port, value):
                weights[value.get_node(), value.get_index()] = value
    stored = {leaf for value in weights.values() for leaf in _leaves(value.get_node())}
    return Complexity(
        multiply_adds=total,
        parameters=sum(math.prod(_shape(value)) for value in weights.values()),
        bytes=sum(_bytes(leaf.output(0)) for leaf in stored),
    )


def with_static_batch(model: ov.Model) -> ov.Model:
    """The model itself, or where its batch is dynamic a copy with a batch of 1; other sizes stay."""
    if not model.is_dynamic():
        return model
    model = model.clone()
    shapes = {}
    for value in model.inputs:
        shape = value.get_partial_shape()
        if shape.rank.is_static and len(shape) > 0 and shape[0].is_dynamic:
            shape[0] = 1
        shapes[value] = shape
    model.reshape(shapes)
    return model


def _reads(node: ov.Node, leading: int) -> int:
    # a deformable convolution has its offsets between data and weights
    port = 2 if node.get_type_name() == "DeformableConvolution" else 1
    return math.prod(_shape(node.input_value(port))[leading:])


def _shape(value: ov.Output) -> list[int]:
    shape = value.get_partial_shape()
    if shape.is_dynamic:
        name = value.get_node().get_friendly_name()
        raise ModelLoadError(
            f"cannot count multiply-adds: {name} has the shape {shape}; reshape the model to static sizes"
        )
    return list(shape.to_shape())


def _is_weight(kind: str, port: int, value: ov.Output) -> bool:
    if kind in _ELEMENTWISE:
        return value.get_element_type().is_real() and math.prod(_shape(value)) > 1
    if kind in _WEIGHT_PORTS:
        return value.get_element_type().is_real() and port in _WEIGHT_PORTS[kind]
    return kind in _PRODUCTS


def _leaves(node: ov.Node) -> Iterator[ov.Node]:
    kind = node.get_type_name()
    if kind == "Constant":
        yield node
    if kind == "ShapeOf":  # of data, perhaps: what is behind it are other weights
        return
    inputs = node.input_values()
    for value in inputs[:1] if kind in _RESHAPING else inputs:
        yield from _leaves(value.get_node())


def _bytes(value: ov.Output) -> int:
    # 4-bit weights are packed two to a byte
    bits = math.prod(_shape(value)) * int(value.get_element_type().get_bitwidth())
    return math.ceil(bits / 8)
