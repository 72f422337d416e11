"""Where a model can be cut in two at one tensor, and how much work lies on either side; it cuts nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import openvino as ov

from cpuserve.authoring.complexity import multiply_adds, with_static_batch
from cpuserve.authoring.cut import TensorGraph
from cpuserve.authoring.tensorflow_graph import FrozenGraph

__all__ = ["CutPoint", "cutpoints"]


@dataclass(frozen=True)
class CutPoint:
    """A tensor that everything passes on its way from the inputs to the outputs.

    Attributes:
        name: as `cut` takes it.
        type: element type in OpenVINO's words.
        shape: with the batch; -1 where it varies.
        before: share of the model's multiply-adds that are done when it is there, 0 to 1.
        after: share that is still to be done.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    before: float
    after: float


def cutpoints(model: ov.Model, places: FrozenGraph | None = None) -> list[CutPoint]:
    """The articulation tensors of a model that have the batch in front, in order.

    Args:
        model: the whole.
        places: its source, for a frozen TensorFlow graph: the tensors of the source are listed then, as the
            source has them (NHWC).

    Raises:
        ModelLoadError: a shape is not static although the batch is.
    """
    if places is not None:
        tensors = places.wiring.articulations()
        model = places.convert(outputs=tensors)
        names: Sequence[str] = [places.name(tensor) for tensor in tensors]
    else:
        graph = TensorGraph(model)
        names = [graph.name(tensor) for tensor in graph.wiring.articulations()]
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
        done = sum(work[node] for node in graph.wiring.ancestors([tensor])) / total if total else 0.0
        sides = tuple(-1 if side.is_dynamic else side.get_length() for side in shape)
        kind = value.get_element_type().get_type_name()
        found.append(CutPoint(name, kind, sides, round(done, 6), round(1 - done, 6)))
    return found
