"""Reads from a graph what the numbers of its outputs are: probabilities, class ids, or anything."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import openvino as ov

__all__ = [
    "ARGMAX",
    "DETECTIONS",
    "LOG_SOFTMAX",
    "NMS",
    "NORMALISED",
    "SIGMOID",
    "SOFTMAX",
    "OutputEvidence",
    "output_evidence",
]

SOFTMAX, SIGMOID, ARGMAX = "softmax", "sigmoid", "argmax"
LOG_SOFTMAX = "log softmax"  # another softmax makes probabilities of it
NORMALISED = "normalised"  # divided by its length: an embedding
NMS = "indices of a non-maximum suppression"
DETECTIONS = "DetectionOutput"

_FUNCTIONS = {
    "Softmax": SOFTMAX,
    "Sigmoid": SIGMOID,
    "HSigmoid": SIGMOID,
    "HardSigmoid": SIGMOID,
    "NormalizeL2": NORMALISED,
    "NonMaxSuppression": NMS,
    "DetectionOutput": DETECTIONS,
}
_CHOOSING = ("TopK", "NonMaxSuppression", "MulticlassNms", "MatrixNms", "NMSRotated", "DetectionOutput")
_SAME = ("Result", "Identity", "Convert", "ConvertLike", "FakeConvert", "Clamp")
_SHAPED = ("Reshape", "Squeeze", "Unsqueeze")
_PARTS = ("Slice", "StridedSlice", "Gather", "Split", "VariadicSplit")
_ARITHMETIC: dict[str, Callable[[float, float, float], tuple[float, float]]] = {
    "Multiply": lambda scale, offset, by: (scale * by, offset),
    "Divide": lambda scale, offset, by: (scale / by, offset),
    "Add": lambda scale, offset, by: (scale, offset + scale * by),
    "Subtract": lambda scale, offset, by: (scale, offset - scale * by),
}


@dataclass(frozen=True)
class OutputEvidence:
    """What is known of the numbers of one output.

    Attributes:
        function: what made them: `SOFTMAX`, `LOG_SOFTMAX`, `SIGMOID` (each by itself between 0 and 1),
            `ARGMAX` (class ids), `NORMALISED`, `NMS`, `DETECTIONS`, or empty where it is not known.
        axis: the dimension of the output, the batch included, that a softmax or argmax goes along, counted
            from the end (-1 is the last); None where it cannot be followed, and for the dimension an argmax
            has taken away.
        scale: an output is ``scale * number + offset`` of the function's numbers.
        offset: see ``scale``.
        chosen: the graph chooses the best of something: it has a TopK or a non-maximum suppression.
        measured: it was found in the values of sample rows, not in the graph.
    """

    function: str = ""
    axis: int | None = None
    scale: float = 1.0
    offset: float = 0.0
    chosen: bool = False
    measured: bool = False

    @property
    def exact(self) -> bool:
        """Whether the output holds the function's numbers as they are."""
        return math.isclose(self.scale, 1, rel_tol=1e-3) and abs(self.offset) < 1e-3


def output_evidence(model: ov.Model) -> tuple[OutputEvidence, ...]:
    """What the graph says of each output, through operations that only move, round or scale numbers.

    Those are Identity, Transpose, Reshape, Squeeze, Convert, FakeQuantize, a resize, and arithmetic with one
    constant.
    """
    chosen = any(node.get_type_name() in _CHOOSING for node in model.get_ops())
    return tuple(replace(_followed(result.input_value(0)), chosen=chosen) for result in model.get_results())


def _followed(port: ov.Output) -> OutputEvidence:
    """Follows an output back to the operation that made its numbers."""
    moves: list[ov.Node] = []
    scale, offset, rounded = 1.0, 0.0, False
    partial = False
    while True:
        node = port.get_node()
        kind = str(node.get_type_name())
        if kind == "FakeQuantize":
            step = _quantised(node)
            if step is None:
                return OutputEvidence()
            scale, offset = scale * step[0], offset + scale * step[1]
            rounded = rounded or step != (1.0, 0.0)
        elif kind in _ARITHMETIC:
            by = _scalar(node.input_value(1))
            if by is None or (kind == "Divide" and by == 0):
                break
            scale, offset = _ARITHMETIC[kind](scale, offset, by)
        elif kind in _SHAPED or kind == "Transpose":
            moves.append(node)
        elif kind in _PARTS:
            partial = True
        elif kind not in _SAME and not (kind == "Interpolate" and _keeps_range(node)):
            break
        port = node.input_value(0)
    made = _made_by(port)
    if not made.function:  # arithmetic before may be the computation itself: only rounding is undone
        quantised = rounded and _is_quantised(scale, offset)
        return OutputEvidence("", None, scale if quantised else 1.0, offset if quantised else 0.0)
    axis = _moved(made.axis, moves)
    if partial:
        kept = {SOFTMAX: SIGMOID, LOG_SOFTMAX: ""}  # parts of a sum of 1 are still between 0 and 1
        made, axis = replace(made, function=kept.get(made.function, made.function)), None
    return replace(made, axis=axis, scale=scale, offset=offset)


def _made_by(port: ov.Output) -> OutputEvidence:
    node = port.get_node()
    kind = str(node.get_type_name())
    if kind == "TopK" and port.get_index() == 1 and _scalar(node.input_value(1)) == 1:
        rank = len(node.get_output_partial_shape(0))
        return OutputEvidence(ARGMAX, int(node.get_attributes()["axis"]) % rank - rank)
    if kind == "Log":
        inner = _followed(node.input_value(0))
        return replace(inner, function=LOG_SOFTMAX) if inner.function == SOFTMAX else OutputEvidence()
    if kind in ("Softmax", "LogSoftmax"):
        made = SOFTMAX if kind == "Softmax" else LOG_SOFTMAX
        rank = node.get_output_partial_shape(0).rank
        axis = int(node.get_attributes()["axis"])
        if axis >= 0:
            return OutputEvidence(made, axis - rank.get_length() if rank.is_static else None)
        return OutputEvidence(made, axis)
    if kind == "Divide" and _is_length(node.input_value(1).get_node()):
        return OutputEvidence(NORMALISED)
    if kind == "Divide" and _is_sum_of(node.input_value(1).get_node(), node.input_value(0).get_node()):
        axes = _values(node.input_value(1).get_node().input_value(1)) or []
        rank = len(node.get_output_partial_shape(0))
        return OutputEvidence(SOFTMAX, int(axes[0]) % rank - rank if len(axes) == 1 else None)
    if kind == "Concat":
        parts = [_followed(value) for value in node.input_values()]
        if parts and all(part.function in (SIGMOID, SOFTMAX) and part.exact for part in parts):
            return OutputEvidence(SIGMOID)
    return OutputEvidence(_FUNCTIONS.get(kind, ""))


def _is_sum_of(divisor: ov.Node, powers: ov.Node) -> bool:
    """Whether both make a softmax out of its parts: powers, and what they sum up to."""
    return bool(
        powers.get_type_name() == "Exp"
        and divisor.get_type_name() == "ReduceSum"
        and divisor.input_value(0).get_node() == powers
    )


def _is_length(node: ov.Node) -> bool:
    """Whether a divisor is the length of a vector, guarded against zero or not."""
    for _ in range(6):
        kind = node.get_type_name()
        if kind in ("ReduceL2", "Sqrt"):
            return True
        if kind not in ("Maximum", "Clamp", "Add", "Unsqueeze", "Broadcast", "Reshape", "Convert", "Power"):
            return False
        node = node.input_value(0).get_node()
    return False


def _quantised(node: ov.Node) -> tuple[float, float] | None:
    """Scale and offset of a FakeQuantize; None where they differ by channel."""
    limits = [_scalar(value) for value in node.input_values()[1:]]
    if None in limits:
        same = _values(node.input_value(1)) == _values(node.input_value(3))
        return (1.0, 0.0) if same and _values(node.input_value(2)) == _values(node.input_value(4)) else None
    low, high, lowest, highest = (float(limit) for limit in limits if limit is not None)
    if high == low:
        return None
    scale = (highest - lowest) / (high - low)
    if math.isclose(scale, 1, rel_tol=1e-4) and abs(lowest - low) <= abs(high - low) * 1e-4:
        return 1.0, 0.0
    return scale, lowest - low * scale


def _is_quantised(scale: float, offset: float) -> bool:
    return not (math.isclose(scale, 1, rel_tol=1e-3) and abs(offset) < 1e-3)


def _constant(port: ov.Output) -> Any:
    node = port.get_node()
    while node.get_type_name() in ("Convert", "Reshape") and node.get_input_size():
        node = node.input_value(0).get_node()
    return node.data if node.get_type_name() == "Constant" else None


def _scalar(port: ov.Output) -> float | None:
    data = _constant(port)
    return float(data.reshape(-1)[0]) if data is not None and data.size == 1 else None


def _values(port: ov.Output) -> list[float] | None:
    data = _constant(port)
    return None if data is None else [float(value) for value in data.reshape(-1)]


def _keeps_range(resize: ov.Node) -> bool:
    """Whether a resize only mixes neighbours: what is between 0 and 1 stays so, and sums stay."""
    return str(resize.get_attributes().get("mode", "")) in ("nearest", "linear", "linear_onnx")


def _moved(axis: int | None, moves: list[ov.Node]) -> int | None:
    """Where a dimension is after the operations that follow, the last of which is the first in ``moves``."""
    for node in reversed(moves):
        if axis is None:
            return None
        before, after = node.get_input_partial_shape(0), node.get_output_partial_shape(0)
        if before.rank.is_dynamic or after.rank.is_dynamic:
            return None
        if node.get_type_name() == "Transpose":
            order = _values(node.input_value(1))
            axis = None if order is None else [int(at) for at in order].index(axis % len(order)) - len(order)
        else:
            axis = _reshaped(axis, _sides(before), _sides(after))
    return axis


def _sides(shape: ov.PartialShape) -> list[int]:
    return [side.get_length() if side.is_static else -1 for side in shape]


def _reshaped(axis: int, before: list[int], after: list[int]) -> int | None:
    """The dimension of the same size with as many numbers behind it."""
    size, behind = before[axis], before[len(before) + axis + 1 :]
    if -1 in behind:
        return axis if before[axis:] == after[axis:] else None
    want, seen = math.prod(behind), 1
    for place in range(1, len(after) + 1):
        if after[-place] == size and seen == want:
            return -place
        if after[-place] == -1:
            return None
        seen *= after[-place]
    return None
