"""Judges what a model answers that does not say it: by its graph, labels and shapes, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cpuserve.serving.engine import Port
from cpuserve.serving.postprocess.evidence import (
    ARGMAX,
    LOG_SOFTMAX,
    NMS,
    NORMALISED,
    SIGMOID,
    SOFTMAX,
    OutputEvidence,
)
from cpuserve.serving.postprocess.judge_boxes import judge_boxes
from cpuserve.serving.postprocess.pose_heads import is_blazepose, is_movenet

__all__ = ["Judgement", "judge", "like_input", "map_sides"]

_SOFTMAXES = (SOFTMAX, LOG_SOFTMAX)
_IMAGENET = (1000, 1001)  # with "background"
_COARSEST = 32  # input pixels a pixel of a class map
_ID_TYPES = ("int32", "int64")
_NO_CLASSES = ("depth", "disp", "normal", "flow", "alpha", "matte")


@dataclass(frozen=True)
class Judgement:
    """What a model answers.

    Attributes:
        model_type: in Model API's words; empty where nothing says it.
        why: the evidence, or what is missing.
    """

    model_type: str
    why: str


def judge(
    outputs: Sequence[Port], evidence: Sequence[OutputEvidence], labels: int, width: int, height: int
) -> Judgement:
    """Judges the model type by evidence, for a model that takes pictures.

    Args:
        outputs: of the model.
        evidence: what is known of the numbers of each.
        labels: how many class names the card has.
        width: of the input, pixels.
        height: of the input, pixels.
    """
    boxes = judge_boxes(outputs, evidence, labels, width, height)
    if boxes is not None:
        return Judgement(*boxes)
    if is_movenet(outputs):
        return Judgement("MoveNet", "17 times y, x and score")
    if is_blazepose(outputs):
        return Judgement("BlazePose", "five numbers for each of 39 or 33 points, and one for the person")
    if len(outputs) != 1:
        return Judgement("", f"nothing says what its {len(outputs)} outputs are together")
    (port,), (known,) = outputs, evidence
    if known.function == NMS:
        return Judgement("", "its output holds indices that a non-maximum suppression chose")
    if known.function == NORMALISED:
        return Judgement("", "its output is divided by its length: an embedding")
    sides = [size for size in port.row_shape if size != 1]
    if len(sides) <= 1 and -1 not in sides and known.function != ARGMAX:
        return _scores(known, sides[0] if sides else 1, labels)
    if len(sides) == 2 and known.function in _SOFTMAXES and known.axis == -1 and sides[1] - labels in (1, 2):
        return Judgement("PaddleOCR-rec", f"a softmax over {labels} labels and a blank, step by step")
    return _map(port, known, labels, width, height)


def _scores(known: OutputEvidence, count: int, labels: int) -> Judgement:
    kind = "Classification"
    measured = ", as all sample rows show" if known.measured else ""
    if known.function in _SOFTMAXES and count > 1 and known.axis is not None:
        return Judgement(kind, f"a softmax over {count} scores{measured}")
    if known.function == SIGMOID:
        return Judgement(kind, f"a sigmoid for each of {count} scores{measured}")
    if count > 1 and labels == count:
        return Judgement(kind, f"as many labels as scores, {count}")
    if count in _IMAGENET and not labels:
        return Judgement(kind, f"{count} scores, the number of ImageNet's classes")
    return Judgement(
        "",
        f"nothing says that its {count} numbers are scores of classes: no softmax or sigmoid, and {labels} "
        "labels",
    )


def _map(port: Port, known: OutputEvidence, labels: int, width: int, height: int) -> Judgement:
    kind = "Segmentation"
    sides = map_sides(port.row_shape, known, labels)
    if sides is None or not like_input(sides[0], sides[1], width, height):
        shape = ["N", *port.row_shape]
        return Judgement(
            "", f"its output {str(shape).replace(chr(39), '')} is no map of the picture's classes"
        )
    rows, columns, classes = sides
    where = f"{rows}x{columns} pixels"
    ids = port.dtype.name in _ID_TYPES and known.exact and known.function != SIGMOID
    if classes in (None, 1):  # a side of 1 says nothing: it is there with ids and with scores
        classes = None if ids or known.function == ARGMAX else 1
    if classes is None:
        if known.function == ARGMAX:
            return Judgement(kind, f"an argmax for each of {where}")
        return Judgement(kind, f"whole numbers ({port.dtype.name}) for {where}")
    if classes == 1:
        if any(word in port.names[0].lower() for word in _NO_CLASSES):
            return Judgement("", f"its output {port.names[0]!r} is not named as a mask")
        if known.function == SIGMOID:
            return Judgement(kind, f"a sigmoid for each of {where}: one class and the background")
        if labels in (1, 2):
            return Judgement(kind, f"{labels} labels, and one score for each of {where}")
        return Judgement("", f"nothing says that its numbers for {where} are a mask: no sigmoid, no labels")
    if known.function in _SOFTMAXES and known.axis is not None:
        return Judgement(kind, f"a softmax over {classes} classes for each of {where}")
    if labels == classes:
        return Judgement(kind, f"as many labels as channels, {classes}, for each of {where}")
    return Judgement(
        "",
        f"nothing says that its {classes} channels of {where} are classes: no softmax, and {labels} labels",
    )


def map_sides(shape: Sequence[int], known: OutputEvidence, labels: int) -> tuple[int, int, int | None] | None:
    """Rows, columns and classes of a map; its classes are None where it holds class ids.

    Args:
        shape: of a row of the output.
        known: what is known of its numbers.
        labels: how many class names the card has.

    Returns:
        None for an output of other dimensions.
    """
    if known.function == ARGMAX or len(shape) == 2:
        inner = [size for size in shape if size != 1] if len(shape) > 2 else list(shape)
        return (inner[0], inner[1], None) if len(inner) == 2 else None
    if len(shape) != 3:
        return None
    axis = known.axis if known.function in _SOFTMAXES else None
    if axis is None:
        axis = -1 if _last_is_classes(shape, labels) else -3
    if axis == -3:
        return shape[1], shape[2], shape[0]
    return (shape[0], shape[1], shape[2]) if axis == -1 else None


def _last_is_classes(shape: Sequence[int], labels: int) -> bool:
    if 1 in (shape[0], shape[2]) and shape[0] != shape[2]:
        return shape[2] == 1
    return shape[2] == labels or (shape[0] != labels and shape[2] < shape[0])


def like_input(rows: int, columns: int, width: int, height: int) -> bool:
    """Whether a map shows the whole input, each of its pixels the same part of it."""
    if rows < 2 or columns < 2 or rows > height or columns > width:
        return False
    down, across = height / rows, width / columns
    # a network's strides round sides up: 33 rows of 257 and 17 of 257 are both right
    return max(down, across) <= _COARSEST and abs(down - across) <= 0.15 * max(down, across)
