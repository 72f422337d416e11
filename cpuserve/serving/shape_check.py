"""Checks the sizes a client chose against a graph before it runs: the compiled graph may not notice.

OpenVINO's CPU plugin multiplies matrices whose sides do not match, and answers with what lies in memory.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence

import openvino as ov
from openvino import opset13 as ops

from cpuserve.errors import RequestError, last_line
from cpuserve.serving.graph import names_of

__all__ = ["ShapeCheck"]

_KEPT = 256  # sets of shapes that are known to fit
_LARGE = 4096  # numbers of a constant that is a weight, of which shape inference reads the shape alone

_Shapes = tuple[tuple[int, ...], ...]


class ShapeCheck:
    """Runs shape inference once for each new set of shapes; holds no weights.

    Args:
        model: the graph.
    """

    def __init__(self, model: ov.Model) -> None:
        self._names = [names_of(port)[0] for port in model.inputs]
        self._graph = _without_weights(model)
        self._allowed = [port.partial_shape for port in model.inputs]
        self._fit: OrderedDict[_Shapes, None] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Checks one shape an input.

        Raises:
            RequestError: the graph cannot compute with them.
        """
        key = tuple(shapes)
        with self._lock:
            if key in self._fit:
                self._fit.move_to_end(key)
                return
            for name, shape, allowed in zip(self._names, key, self._allowed, strict=True):
                if not allowed.compatible(ov.PartialShape(list(shape))):
                    raise RequestError(f"input {name!r} takes {allowed}, not {list(shape)} (setting `shape`)")
            copy = self._graph.clone()
            wanted = {copy.input(place): ov.PartialShape(list(shape)) for place, shape in enumerate(key)}
            try:
                copy.reshape(wanted)
            except RuntimeError as error:
                sent = ", ".join(
                    f"{name} {list(shape)}" for name, shape in zip(self._names, key, strict=True)
                )
                said = last_line(error)[:200]
                raise RequestError(f"the model cannot compute with inputs of {sent}: {said}") from error
            self._fit[key] = None
            while len(self._fit) > _KEPT:
                self._fit.popitem(last=False)


def _without_weights(model: ov.Model) -> ov.Model:
    """A copy that has inputs in the place of its weights; a whole one where shapes depend on these."""
    graph = model.clone()
    parameters = list(graph.get_parameters())
    for node in graph.get_ordered_ops():
        if node.get_type_name() == "Constant" and math.prod(node.get_output_shape(0)) > _LARGE:
            weight = ops.parameter(node.get_output_shape(0), node.get_output_element_type(0))
            node.output(0).replace(weight.output(0))
            parameters.append(weight)
    try:
        graph = ov.Model(graph.get_results(), graph.get_sinks(), parameters, "shapes")
        graph.validate_nodes_and_infer_types()
    except RuntimeError:  # an operation that wants a constant
        return model.clone()
    same = [port.partial_shape for port in graph.outputs] == [port.partial_shape for port in model.outputs]
    return graph if same else model.clone()
