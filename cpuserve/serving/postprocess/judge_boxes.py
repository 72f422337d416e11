"""Judges whether a model that does not say it answers with boxes, by what known heads have in common."""

from __future__ import annotations

from collections.abc import Sequence

from cpuserve.serving.engine import Port
from cpuserve.serving.postprocess.evidence import DETECTIONS, SIGMOID, SOFTMAX, OutputEvidence
from cpuserve.serving.postprocess.found_boxes import FoundBoxes
from cpuserve.serving.postprocess.heads import NanoDet
from cpuserve.serving.postprocess.scored_boxes import box_and_score_places
from cpuserve.serving.postprocess.scrfd import Scrfd
from cpuserve.serving.postprocess.yolo_fastest import YoloFastestV2
from cpuserve.serving.postprocess.yolo_table import grid_boxes

__all__ = ["judge_boxes"]

_MOST_QUERIES = 1000
_COCO_NOTHING, _SIGMOID_CLASSES = 92, (80, 91, 365, 366)  # of DETR; of RT-DETR, RF-DETR, D-FINE and the like
_FACE_PRIORS = {8: 3, 16: 2, 32: 2, 64: 3}  # UltraFace's boxes a cell, by stride


def judge_boxes(
    outputs: Sequence[Port], evidence: Sequence[OutputEvidence], labels: int, width: int, height: int
) -> tuple[str, str] | None:
    """The model type and why, or None for a model that shows no sign of boxes.

    Args:
        outputs: of the model.
        evidence: what is known of the numbers of each.
        labels: how many class names the card has.
        width: of the input, pixels.
        height: of the input, pixels.
    """
    shapes = [port.row_shape for port in outputs]
    if len(outputs) == 1:
        return _one(shapes[0], evidence[0], labels, width, height)
    if len(outputs) == 2:
        found = _two(outputs, evidence, labels, width, height)
        if found is not None:
            return found
    try:
        FoundBoxes(outputs, width, height, confidence=0)
    except ValueError:
        pass
    else:
        return "SSD", f"boxes, scores and classes of {_k(shapes)} finds"
    try:
        faces = Scrfd(outputs, width, height, confidence=0, iou=0)
    except ValueError:
        pass
    else:
        if faces.has_points or all(evidence[place].function == SIGMOID for place in faces.score_places):
            return "SCRFD", "a score and the distances of a box, maybe with five points, by stride"
    try:
        YoloFastestV2(outputs, width, height, labels, confidence=0, iou=0)
    except ValueError:
        pass
    else:
        if labels or all(one.function == SIGMOID for one in evidence):
            return "YOLO-FastestV2", "boxes and objectness of three anchors and classes, for two strides"
    try:
        head = NanoDet(outputs, width, height, labels, confidence=0, iou=0)
    except ValueError:
        return None
    if all(evidence[place].function == SIGMOID for place in head.class_places):
        return "NanoDet", f"a sigmoid over classes and bins of distances, for {len(outputs) // 2} strides"
    return None


def _one(
    shape: tuple[int, ...], known: OutputEvidence, labels: int, width: int, height: int
) -> tuple[str, str] | None:
    if known.function == DETECTIONS:
        return "SSD", "OpenVINO's DetectionOutput"
    if len(shape) in (3, 4) and shape[-1] == 7 and all(side == 1 for side in shape[:-2]):
        return "SSD", "rows of seven numbers, as OpenVINO's DetectionOutput makes them"
    if len(shape) == 2 and shape[1] == 6 and shape[0] <= _MOST_QUERIES and known.chosen:
        return "YOLOv10", f"{_k([shape])} finds of six numbers, which the graph itself chooses"
    if len(shape) == 2 and labels:
        cells = grid_boxes(width, height)
        if shape in ((4 + labels, cells), (cells, 4 + labels)):
            return "YOLOv8", f"a box and {labels} labels for each of {cells} cells"
        if shape == (3 * cells, 5 + labels):
            return "YOLOv5", f"a box, a score and {labels} labels for 3 anchors in each of {cells} cells"
        if shape[1] == 4 + labels and shape[0] <= _MOST_QUERIES and known.chosen:
            return "RT-DETR", f"a box and {labels} labels for each of {shape[0]} queries"
    if len(shape) == 3 and labels and shape == (5 + labels, -(-height // 16), -(-width // 16)):
        return "FastestDet", f"objectness, a box and {labels} labels for each cell of 16 pixels"
    return None


def _two(
    outputs: Sequence[Port], evidence: Sequence[OutputEvidence], labels: int, width: int, height: int
) -> tuple[str, str] | None:
    places = box_and_score_places(outputs)
    if places is None:
        return _with_masks(outputs, labels, width, height)
    count, classes = outputs[places[1]].row_shape
    known = evidence[places[1]].function
    if classes == 2 and known == SOFTMAX and count == _face_priors(width, height):
        return "UltraFace", f"a softmax of face and none for each of {count} boxes"
    if labels == classes and count == grid_boxes(width, height):
        return "YOLO", f"a box and {labels} labels for each of {count} cells"
    named = "logits" in outputs[places[1]].names[0].lower() or known == SIGMOID
    if 0 < count <= _MOST_QUERIES:
        if (labels and classes == labels + 1) or (not labels and named and classes == _COCO_NOTHING):
            return "DETR", f"{classes} scores for each of {count} queries, one of them for nothing"
        if labels == classes or (not labels and named and classes in _SIGMOID_CLASSES):
            return "RT-DETR", f"{classes} scores for each of {count} queries"
    return None


def _with_masks(outputs: Sequence[Port], labels: int, width: int, height: int) -> tuple[str, str] | None:
    tables = [port.row_shape for port in outputs if len(port.row_shape) == 2]
    masks = [port.row_shape for port in outputs if len(port.row_shape) == 3]
    if len(tables) == len(masks) == 1 and labels:
        cells, count = grid_boxes(width, height), min(tables[0]) - 4 - labels
        if max(tables[0]) == cells and count > 0 and count in (masks[0][0], masks[0][2]):
            return "YOLO-seg", f"a box, {labels} labels and {count} masks for each of {cells} cells"
    return None


def _face_priors(width: int, height: int) -> int:
    return sum(count * -(-width // s) * -(-height // s) for s, count in _FACE_PRIORS.items())


def _k(shapes: Sequence[tuple[int, ...]]) -> str:
    sizes = {shape[0] for shape in shapes if shape}
    return "any number of" if -1 in sizes or not sizes else str(max(sizes))
