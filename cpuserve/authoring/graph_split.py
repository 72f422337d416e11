"""Splits a graph into head, core and tail, which together compute what the whole graph does."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from cpuserve.authoring.graph_connectivity import Connectivity, Division, Tensor
from cpuserve.errors import UsageError

__all__ = ["SplitGraph", "TensorGraph", "leak_error", "split_graph", "unknown_tensor"]


@dataclass(frozen=True)
class SplitGraph:
    """The three parts of a graph; the outputs of each are the inputs of the next, in order.

    Attributes:
        head: the part before the core; None when nothing is cut off there.
        core: the part in the middle.
        tail: the part after the core; None when nothing is cut off there.
    """

    head: ov.Model | None
    core: ov.Model
    tail: ov.Model | None


class TensorGraph:
    """The tensors of a model by name, and which node reads which.

    A ShapeOf of a static shape counts as a constant.

    Attributes:
        model: the model.
        nodes: its nodes in topological order.
        connectivity: which node reads which tensor.
    """

    def __init__(self, model: ov.Model) -> None:
        self.model = model
        self.nodes = model.get_ordered_ops()
        index = {node: place for place, node in enumerate(self.nodes)}
        reads: list[tuple[Tensor, ...]] = []
        inputs, results, live = set(), {}, set()
        for place, node in enumerate(self.nodes):
            kind = node.get_type_name()
            found: tuple[Tensor, ...] = ()
            if kind == "Parameter":
                inputs.add(place)
            elif not (kind == "ShapeOf" and node.input_value(0).get_partial_shape().is_static):
                sources = ((index[value.get_node()], value.get_index()) for value in node.input_values())
                found = tuple(source for source in sources if source[0] in live)
            if kind == "Result":
                results[node] = place
            if found or kind == "Parameter":
                live.add(place)
            reads.append(found)
        ends = tuple(results[node] for node in model.get_results())
        self.connectivity = Connectivity(reads, frozenset(inputs), ends)
        self._by_name: dict[str, Tensor] = {}
        for place in sorted(live - {*ends}):
            node = self.nodes[place]
            self._by_name.setdefault(node.get_friendly_name(), (place, 0))
            for port, value in enumerate(node.outputs()):
                for name in (*value.get_names(), self.name((place, port))):
                    self._by_name[name] = (place, port)

    def value(self, tensor: Tensor) -> ov.Output:
        """The output of the model's node that makes a tensor."""
        return self.nodes[tensor[0]].output(tensor[1])

    def name(self, tensor: Tensor) -> str:
        """The shortest name of a tensor; else its node's name, numbered if that has several outputs."""
        node = self.nodes[tensor[0]]
        names = sorted(node.output(tensor[1]).get_names(), key=lambda name: (len(name), name))
        alone = node.get_output_size() == 1
        return str(names[0] if names else node.get_friendly_name() + ("" if alone else f":{tensor[1]}"))

    def find(self, name: str) -> Tensor:
        """Finds a tensor by name.

        Args:
            name: name of the tensor or of its node, with or without ``:0``; ``0:NODE`` means the tensor that
                the node reads at its first input.

        Raises:
            UsageError: there is none; the message proposes similar names.
        """
        for said in (name, f"{name}:0", name.removesuffix(":0")):
            if said in self._by_name:
                return self._by_name[said]
        port, _, node = name.partition(":")
        if port.isdigit() and node in self._by_name:
            reads = self.connectivity.reads[self._by_name[node][0]]
            if int(port) < len(reads):
                return reads[int(port)]
        raise unknown_tensor(name, self._by_name)


def unknown_tensor(name: str, there: Iterable[str]) -> UsageError:
    """The error for a name that no tensor has, with similar names."""
    near = difflib.get_close_matches(name, list(there), n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return UsageError(f"no tensor {name[:200]!r}{hint} (cpuserve cutpoints lists where a model can be cut)")


def leak_error(division: Division, names: Mapping[Tensor, str]) -> UsageError | None:
    """Why a graph cannot be divided so, or None.

    Args:
        division: the division.
        names: name of each tensor.
    """

    def listed(tensors: Iterable[Tensor]) -> str:
        return ", ".join(names[tensor] for tensor in tensors)

    if division.unused:
        return UsageError(f"the outputs do not depend on the input {listed(division.unused)}: leave it out")
    if division.into_core:
        found = listed(division.into_core)
        return UsageError(
            f"the cut leaks: {found} reaches the outputs beside the inputs; add it with --input, or cut at a "
            "tensor that cpuserve cutpoints lists"
        )
    if division.into_tail:
        found = listed(division.into_tail)
        return UsageError(
            f"the cut leaks: {found} reaches the end of the model beside the outputs; add it with --output, "
            "or cut at a tensor that cpuserve cutpoints lists"
        )
    return None


def split_graph(model: ov.Model, inputs: Sequence[str], outputs: Sequence[str]) -> SplitGraph:
    """Splits a copy of a model in three.

    Args:
        model: the whole model.
        inputs: tensors where the core begins; none: the inputs of the model.
        outputs: tensors where the core ends; none: the outputs of the model.

    Raises:
        UsageError: no such tensor, a tensor without the batch in front, or another path into core or tail.
    """
    graph = TensorGraph(model.clone())
    connectivity = graph.connectivity
    own_inputs = [(graph.nodes.index(node), 0) for node in graph.model.get_parameters()]
    own_outputs = [connectivity.reads[node][0] for node in connectivity.outputs if connectivity.reads[node]]
    starts = list(dict.fromkeys(map(graph.find, inputs))) or own_inputs
    ends = list(dict.fromkeys(map(graph.find, outputs))) or own_outputs
    division = connectivity.divide(starts, ends)
    named = {tensor: graph.name(tensor) for tensors in connectivity.reads for tensor in tensors}
    problem = leak_error(division, named)
    if problem is not None:
        raise problem
    headless, tailless = {*starts} <= {*own_inputs}, {*own_outputs} <= {*ends}
    if headless and tailless:
        raise UsageError("nothing is cut off: these inputs and outputs are the model's own")
    for tensor in (*starts, *ends):
        _has_batch(graph, tensor)
    _fix_shapes(graph, division)
    parameters, results = graph.model.get_parameters(), graph.model.get_results()
    head = tail = None
    first, last = parameters, results
    if not headless:
        head_results, first = _disconnect(graph, starts, division.core | division.tail, {*ends})
        head = ov.Model(head_results, parameters, "head")
    if not tailless:
        last, tail_parameters = _disconnect(graph, ends, division.tail, set())
        tail = ov.Model(results, tail_parameters, "tail")
    return SplitGraph(head, ov.Model(last, first, "core"), tail)


def _disconnect(
    graph: TensorGraph, tensors: Sequence[Tensor], readers: frozenset[int], passed: set[Tensor]
) -> tuple[list[ov.Node], list[ov.Node]]:
    """Ends the graph at ``tensors`` and gives ``readers`` new parameters instead.

    Tensors in ``passed`` belong to the next cut too: their node is replaced by the parameter.

    Returns:
        The new results and the new parameters, one of each for every tensor.
    """
    ordered = [graph.nodes[node] for node in sorted(readers)]
    results, parameters = [], []
    for tensor in tensors:
        value = graph.value(tensor)
        name = graph.name(tensor)
        if not value.get_names():
            value.get_tensor().set_names({name})
        parameter = ops.parameter(value.get_partial_shape(), value.get_element_type(), name=name)
        parameter.output(0).get_tensor().set_names(value.get_names())
        for node in ordered:
            for port in node.inputs():
                if port.get_source_output() == value:
                    port.replace_source_output(parameter.output(0))
        results.append(ops.result(value, name=f"{name}/result"))
        parameters.append(parameter)
        if tensor in passed:
            graph.nodes[tensor[0]] = parameter
    return results, parameters


def _has_batch(graph: TensorGraph, tensor: Tensor) -> None:
    shape = graph.value(tensor).get_partial_shape()
    whole = graph.model.input(0).get_partial_shape()
    if shape.rank.is_static and len(shape) and len(whole) and shape[0] == whole[0]:
        return
    raise UsageError(
        f"cannot cut at {graph.name(tensor)} of shape {shape}: its first side must be the batch, {whole[0]}"
    )


def _fix_shapes(graph: TensorGraph, division: Division) -> None:
    """Turns shapes that are read across a cut into constants: their tensor is in another part."""
    part = {
        node: number
        for number, nodes in enumerate((division.head, division.core, division.tail))
        for node in nodes
    }
    index = {node: place for place, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        if node.get_type_name() != "ShapeOf" or graph.connectivity.reads[index[node]]:
            continue
        source = index.get(node.input_value(0).get_node())  # None: a constant from the line below
        if source is None or {part.get(reader) for reader in _readers(node, index, part)} <= {
            part.get(source)
        }:
            continue
        value = node.output(0)
        sizes = np.array(node.input_value(0).get_shape(), value.get_element_type().to_dtype())
        value.replace(ops.constant(sizes).output(0))


def _readers(node: ov.Node, index: Mapping[ov.Node, int], part: Mapping[int, int]) -> set[int]:
    """The nodes of any part that a constant feeds, directly or through other constants."""
    found: set[int] = set()
    todo = [node]
    while todo:
        for port in (port for value in todo.pop().outputs() for port in value.get_target_inputs()):
            reader = port.get_node()
            place = index[reader]
            if place in part:
                found.add(place)
            else:
                todo.append(reader)
    return found
