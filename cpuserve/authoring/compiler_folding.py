"""Reads from a compiled graph which operations of the model the compiler merged or computed ahead.

`CompiledModel.get_runtime_model` gives the graph that OpenVINO's CPU plugin runs. Its nodes list in
`originalLayersNames` the operations they were made of. An operation without a node of its own name is folded;
the node that lists it tells into what.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import openvino as ov

__all__ = ["Folding", "folding"]

_ARITHMETIC = frozenset(("Add", "Subtract", "Multiply", "Divide"))
_SCALING = frozenset(("Multiply", "Divide"))
_REARRANGING = frozenset(("BatchToSpace", "Transpose", "StridedSlice", "Slice", "Squeeze"))
_PRODUCTS = frozenset(("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul"))
_NO_WORK = frozenset(("Constant", "Parameter", "Result"))
_IDLE = frozenset(("Const", "Input", "Output"))  # nodes of the compiled graph that compute nothing
_PRODUCT_LAYERS = frozenset(("Convolution", "Deconvolution", "MatMul", "FullyConnected"))
_OF_ONE_ELEMENT = frozenset(("Eltwise", "Subgraph", "FakeQuantize"))
_LAYOUTS = {
    "abcd": "NCHW",
    "acdb": "NHWC",
    "abcde": "NCDHW",
    "acdeb": "NDHWC",
    "aBcd8b": "nChw8c",
    "aBcd16b": "nChw16c",
}


@dataclass(frozen=True)
class Folding:
    """What the compiler did with the operations of a model.

    Attributes:
        operations: number of operations of the model, without constants, inputs and outputs.
        executed: nodes that run, including reorders of memory.
        batch_norms: normalisations by constants: `BatchNormInference`, and chains of arithmetic with a factor
            a channel behind a convolution or a matrix product, as importers write them.
        batch_norms_merged: those that have no node of their own any more.
        constants: operations computed while compiling, because they do not depend on the input.
        fused: operations that run inside the node of another, by type.
        transposes: transposes of the model that move data.
        transposes_left: transposes that run.
        reorders: changes of the memory layout that the compiler added, by "FROM to TO".
    """

    operations: int
    executed: int
    batch_norms: int
    batch_norms_merged: int
    constants: int
    fused: Mapping[str, int]
    transposes: int
    transposes_left: int
    reorders: Mapping[str, int]


def folding(model: ov.Model, compiled: ov.CompiledModel) -> Folding:
    """Compares a model with its compiled graph.

    Args:
        model: the model that was given to `compile_model`.
        compiled: the result, on the CPU.
    """
    nodes = model.get_ordered_ops()
    of_type = {node.get_friendly_name(): node.get_type_name() for node in nodes}
    constant = _constant(nodes)
    running = [
        node
        for node in compiled.get_runtime_model().get_ordered_ops()
        if _info(node, "layerType") not in _IDLE
    ]
    own = {node.get_friendly_name() for node in running}
    inside = {name for node in running for name in _names(node)} - own
    # A convolution that took up what follows may go on under its name.
    products = [node for node in running if _info(node, "layerType") in _PRODUCT_LAYERS]
    taken = {name for node in products for name in _names(node)}
    alone = own - {node.get_friendly_name() for node in products}
    norms = _batch_norms(nodes, constant)
    strangers = sum(
        _info(node, "layerType") in _OF_ONE_ELEMENT and not any(name in of_type for name in _names(node))
        for node in running
    )
    merged = sum(bool(chain & taken) and not chain & alone for chain in norms)
    # A chain whose names are all gone may be one of the nodes with names that the compiler has invented.
    lost = sum(not chain & (taken | inside | alone) for chain in norms)
    merged += max(0, lost - strangers)
    moving = [node for node in nodes if node.get_friendly_name() not in constant]
    return Folding(
        operations=sum(kind not in _NO_WORK for kind in of_type.values()),
        executed=len(running),
        batch_norms=len(norms),
        batch_norms_merged=merged,
        constants=sum(of_type[name] not in _NO_WORK and name not in own for name in constant),
        fused=dict(Counter(of_type[name] for name in sorted(inside) if name in of_type).most_common()),
        transposes=sum(node.get_type_name() == "Transpose" for node in moving),
        transposes_left=sum(_info(node, "layerType") == "Transpose" for node in running),
        reorders=dict(Counter(_reorder(node) for node in running if _info(node, "layerType") == "Reorder")),
    )


def _constant(nodes: list[ov.Node]) -> set[str]:
    """Names of the operations whose value does not depend on the input; a fixed shape does not."""
    found: set[str] = set()
    for node in nodes:
        inputs = node.input_values()
        fixed = node.get_type_name() == "ShapeOf" and inputs[0].get_partial_shape().is_static
        known = bool(inputs) and all(port.get_node().get_friendly_name() in found for port in inputs)
        if (fixed or known or node.get_type_name() == "Constant") and node.get_type_name() != "Result":
            found.add(node.get_friendly_name())
    return found


def _batch_norms(nodes: list[ov.Node], constant: set[str]) -> list[set[str]]:
    """Names of the operations of each normalisation."""
    found = []
    for node in nodes:
        if node.get_type_name() == "BatchNormInference":
            found.append({node.get_friendly_name()})
        elif node.get_type_name() in _PRODUCTS and node.get_friendly_name() not in constant:
            chain = _chain(node, constant)
            if any(link.get_type_name() in _SCALING for link in chain):
                found.append({link.get_friendly_name() for link in chain})
    return found


def _chain(node: ov.Node, constant: set[str]) -> list[ov.Node]:
    """The following arithmetic with one constant a channel; the data may be rearranged before it."""
    chain: list[ov.Node] = []
    while True:
        readers = [target.get_node() for target in node.output(0).get_target_inputs()]
        readers = [reader for reader in readers if reader.get_type_name() != "ShapeOf"]
        if len(readers) != 1:
            return chain
        node = readers[0]
        if node.get_type_name() in _REARRANGING and not chain:
            continue
        if node.get_type_name() not in _ARITHMETIC:
            return chain
        others = [port for port in node.input_values() if port.get_node().get_friendly_name() in constant]
        if len(others) != 1 or others[0].get_partial_shape().is_dynamic:
            return chain
        sides = others[0].get_shape()
        if sum(side > 1 for side in sides) != 1:  # one number, or more than a value a channel
            return chain
        chain.append(node)


def _names(node: ov.Node) -> list[str]:
    return _info(node, "originalLayersNames").split(",")


def _info(node: ov.Node, key: str) -> str:
    info = node.get_rt_info()
    return str(info[key].astype(str)) if key in info else ""


def _reorder(node: ov.Node) -> str:
    before = _info(node.input_value(0).get_node(), "outputLayouts").split(",")[0]
    after = _info(node, "outputLayouts").split(",")[0]
    return f"{_LAYOUTS.get(before, before)} to {_LAYOUTS.get(after, after)}"
