"""Splits a frozen TensorFlow graph at tensors of the file, without TensorFlow.

OpenVINO's importer moves and fuses operations, so few of the file's names are left in a converted graph. Its
front end can begin and end a conversion at a tensor but lists no tensors: their names are read from the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import openvino as ov
from openvino.frontend import FrontEndManager

from cpuserve.authoring.graph_connectivity import Connectivity, Tensor
from cpuserve.authoring.graph_split import SplitGraph, leak_error, unknown_tensor
from cpuserve.errors import ModelLoadError, UsageError, last_line
from cpuserve.models.graph_def import GraphDef, node_and_output
from cpuserve.serving.graph import is_identity

__all__ = ["FrozenGraph", "split_frozen_graph"]


class FrozenGraph(GraphDef):
    """The tensors of a frozen graph by name, and which node reads which.

    Args:
        file: a binary GraphDef.

    Attributes:
        connectivity: which node reads which tensor; a node without a name reads each output.

    Raises:
        ModelLoadError: the file is not one.
    """

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        count, ends = len(self.live), len(self.outputs)
        self.connectivity = Connectivity(
            [*self.live, *((end,) for end in self.outputs)],
            frozenset(place for place, _ in self.inputs),
            tuple(range(count, count + ends)),
        )

    def find(self, name: str) -> Tensor:
        """Finds a tensor: ``NODE``, ``NODE:OUTPUT``, or ``INPUT:NODE`` for what the node reads there.

        Raises:
            UsageError: there is none; the message proposes similar names.
        """
        places = self.places
        node, port = node_and_output(name)
        if node in places and (port == 0 or any((places[node], port) in read for read in self.reads)):
            return places[node], port
        front, _, node = name.partition(":")
        if front.isdigit() and node in places and int(front) < len(self.reads[places[node]]):
            return self.reads[places[node]][int(front)]
        raise unknown_tensor(name, [f"0:{node}" for node in places] if front.isdigit() else places)

    def in_order_of(self, values: Sequence[ov.Output], tensors: Sequence[Tensor]) -> list[Tensor]:
        """Sorts tensors by their order in a converted graph."""
        return [tensor for value in values for tensor in tensors if self.name(tensor) in value.get_names()]

    def convert(
        self,
        inputs: Sequence[Tensor] = (),
        outputs: Sequence[Tensor] = (),
        like: Sequence[ov.Output] = (),
    ) -> ov.Model:
        """Imports the part of the graph from ``inputs`` to ``outputs``.

        Args:
            inputs: tensors where it begins; none: the inputs of the graph.
            outputs: tensors where it ends; none: the outputs of the graph.
            like: for each input a tensor with its type and shape, which a part of a graph does not know.

        Raises:
            ModelLoadError: OpenVINO refuses the graph.
        """
        try:
            front = FrontEndManager().load_by_framework("tf")
            source = front.load(str(self.file))
            begin, end = (
                [source.get_place_by_tensor_name(self.name(tensor)) for tensor in chosen]
                for chosen in (inputs, outputs)
            )
            if begin:
                source.override_all_inputs(begin)
            if end:
                source.override_all_outputs(end)
            for place, value in zip(begin, like, strict=False):
                source.set_element_type(place, value.get_element_type())
                source.set_partial_shape(place, value.get_partial_shape())
            model = front.convert(source)
        except RuntimeError as error:
            raise ModelLoadError(
                f"OpenVINO cannot import this part of {self.file.name}: {last_line(error)}"
            ) from error
        return _in_order(model, [self.name(tensor) for tensor in inputs], [self.name(t) for t in outputs])


def split_frozen_graph(graph: FrozenGraph, inputs: Sequence[str], outputs: Sequence[str]) -> SplitGraph:
    """Splits a frozen graph in three at tensors of the file, such as ``0:MobilenetV2/Conv/Conv2D``.

    Args:
        graph: the graph.
        inputs: tensors where the core begins; none: the inputs of the graph.
        outputs: tensors where the core ends; none: the outputs of the graph.

    Raises:
        UsageError: no such tensor, or another path into core or tail.
        ModelLoadError: OpenVINO refuses a part.
    """
    starts = list(dict.fromkeys(map(graph.find, inputs))) or graph.inputs
    ends = list(dict.fromkeys(map(graph.find, outputs))) or graph.outputs
    connectivity = graph.connectivity
    named = {tensor: graph.name(tensor) for tensors in connectivity.reads for tensor in tensors}
    problem = leak_error(connectivity.divide(starts, ends), named)
    if problem is not None:
        raise problem
    headless, tailless = {*starts} == {*graph.inputs}, {*ends} == {*graph.outputs}
    if headless and tailless:
        raise UsageError("nothing is cut off: these inputs and outputs are the model's own")
    whole = graph.convert()
    if headless:
        starts = graph.in_order_of(whole.inputs, starts)
    if tailless:
        ends = graph.in_order_of(whole.outputs, ends)
    head = None if headless else graph.convert(outputs=starts)
    given = whole.inputs if head is None else head.outputs
    core = graph.convert([] if headless else starts, ends, given)
    tail = None if tailless else graph.convert(ends, like=core.outputs)
    if tail is not None and is_identity(tail):
        tail = None  # the end of the graph only gives the core's outputs other names
    if tail is None:
        for ours in core.outputs:
            for theirs in whole.outputs:
                if ours.get_names() & theirs.get_names():
                    ours.get_tensor().set_names(ours.get_names() | theirs.get_names())
    return SplitGraph(head, core, tail)


def _in_order(model: ov.Model, inputs: Sequence[str], outputs: Sequence[str]) -> ov.Model:
    """Sorts inputs and outputs as asked for; the importer does not keep their order."""
    if not inputs and not outputs:
        return model
    parameters = [model.input(name).get_node() for name in inputs] or model.get_parameters()
    results = [model.output(name).get_node() for name in outputs] or model.get_results()
    return ov.Model(results, parameters, model.get_friendly_name())
