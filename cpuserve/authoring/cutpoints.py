"""Lists the tensors where a model can be cut, with the share of the work before and after each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import openvino as ov

from cpuserve.authoring.complexity import multiply_adds, with_static_batch
from cpuserve.authoring.graph_split import TensorGraph
from cpuserve.authoring.tensorflow_graph import FrozenGraph

__all__ = ["CutPoint", "cutpoints"]


@dataclass(frozen=True)
class CutPoint:
    """A tensor that every path from the inputs to the outputs passes.

    Attributes:
        name: its name, as `split_graph` takes it.
        type: element type in OpenVINO's words.
        shape: with the batch; -1 where it varies.
        before: share of the multiply-adds that are done before it, 0 to 1.
        after: share that is done after it, 0 to 1.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    before: float
    after: float


def cutpoints(model: ov.Model, frozen: FrozenGraph | None = None) -> list[CutPoint]:
    """The cut points of a model whose first dimension is the batch, in order.

    Args:
        model: the whole model.
        frozen: the frozen TensorFlow graph that the model was read from; its tensors are listed then, in its
            layout (NHWC).

    Raises:
        ModelLoadError: a shape is not static although the batch is.
    """
    if frozen is not None:
        tensors = frozen.connectivity.articulations()
        model = frozen.convert(outputs=tensors)
        names: Sequence[str] = [frozen.name(tensor) for tensor in tensors]
    else:
        graph = TensorGraph(model)
        names = [graph.name(tensor) for tensor in graph.connectivity.articulations()]
    graph = TensorGraph(model)
    static = with_static_batch(model).get_ordered_ops()
    work = [multiply_adds(node) for node in static]
    total = sum(work)
    batch = model.input(0).get_partial_shape()[0]
    found = []
    for name in names:
        tensor = graph.find(name)
        value = graph.value(tensor)
        shape = value.get_partial_shape()
        if shape.rank.is_dynamic or not len(shape) or shape[0] != batch:
            continue
        done = sum(work[node] for node in graph.connectivity.ancestors([tensor])) / total if total else 0.0
        sides = tuple(-1 if side.is_dynamic else side.get_length() for side in shape)
        kind = value.get_element_type().get_type_name()
        found.append(CutPoint(name, kind, sides, round(done, 6), round(1 - done, 6)))
    return found
