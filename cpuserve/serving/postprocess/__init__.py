"""Makes the answer of a model's outputs, chosen by its metadata."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cpuserve.errors import without_directories
from cpuserve.models.card import Card
from cpuserve.serving.engine import Port
from cpuserve.serving.postprocess.answers import Answer, Postprocessor, TensorsOnly
from cpuserve.serving.postprocess.classification import Classifier
from cpuserve.serving.postprocess.detection import Detector, Head
from cpuserve.serving.postprocess.heads import FastestDet, NanoDet
from cpuserve.serving.postprocess.keypoints import Keypoints
from cpuserve.serving.postprocess.segmentation import Segmenter
from cpuserve.serving.preprocess import Resizer

if TYPE_CHECKING:
    import openvino as ov

__all__ = [
    "MODEL_TYPES",
    "Answer",
    "Classifier",
    "Detector",
    "Keypoints",
    "Postprocessor",
    "Segmenter",
    "TensorsOnly",
    "judged",
    "postprocessor",
]

_OWN_HEADS = ("FastestDet", "NanoDet")
_MODEL_API_BOXES = ("SSD", "YOLO", "YOLOV4", "YOLOF", "YOLOX", "YOLOv5", "YOLOv8", "YOLO11")
_MODEL_API_POINTS = ("keypoint_detection",)
MODEL_TYPES = ("Classification", "Segmentation", *_OWN_HEADS, *_MODEL_API_BOXES, *_MODEL_API_POINTS)
_CONFIDENCE, _IOU = 0.5, 0.5  # Model API's defaults


def postprocessor(
    card: Card,
    outputs: Sequence[Port],
    resizer: Resizer | None,
    *,
    probabilities: bool,
    model: ov.Model | None = None,
) -> Postprocessor | TensorsOnly:
    """The post-processing for a model.

    Args:
        card: its metadata. A ``model_type`` in any case; without one the outputs are judged.
        outputs: of the model.
        resizer: how pictures are brought to its input; None for a model that takes none.
        probabilities: whether the first output already holds probabilities.
        model: whose further metadata Model API's wrappers may read.
    """
    if resizer is None:
        return TensorsOnly("it takes no pictures: no single input [N, H, W, 3] or [N, 3, H, W]")
    kind = next((known for known in MODEL_TYPES if known.lower() == card.model_type.lower()), card.model_type)
    if not kind:
        kind = judged([port.row_shape for port in outputs])
    try:
        if kind == "Classification":
            return Classifier(card.labels, topk=card.topk or 5, softmax=not probabilities)
        if kind == "Segmentation":
            return Segmenter(card.labels, _class_axis(outputs[0].row_shape, len(card.labels)), resizer)
        if kind in _OWN_HEADS:
            return Detector(_own_head(kind, card, outputs, resizer), card.labels, resizer)
        if kind in _MODEL_API_BOXES or kind in _MODEL_API_POINTS:
            return _by_model_api(kind, card, outputs, resizer, model)
    except ValueError as error:
        return TensorsOnly(without_directories(str(error)))
    if not kind:
        return TensorsOnly("its metadata have no model_type, and its outputs fit none")
    return TensorsOnly(f"model_type {kind!r} is none of {', '.join(MODEL_TYPES)}")


def judged(shapes: Sequence[tuple[int, ...]]) -> str:
    """The model type of a model that does not say: one output of class scores, or of scores by pixel.

    Args:
        shapes: of a row of each output, -1 where it varies.

    Returns:
        "Classification", "Segmentation", or empty where the shapes do not tell.
    """
    sides = [size for size in shapes[0] if size != 1]
    if len(shapes) != 1:
        return ""
    if len(sides) == 1 and -1 not in shapes[0]:
        return "Classification"
    return "Segmentation" if len(sides) >= 2 else ""


def _class_axis(shape: tuple[int, ...], classes: int) -> int | None:
    """The axis of class scores: 0 in [C, H, W], -1 in [H, W, C], None in class ids [H, W]."""
    if len([size for size in shape if size != 1]) <= 2:
        return None
    last_is_classes = shape[-1] == classes or (shape[0] != classes and shape[-1] < shape[0])
    return -1 if last_is_classes else 0


def _own_head(kind: str, card: Card, outputs: Sequence[Port], resizer: Resizer) -> Head:
    confidence = _CONFIDENCE if card.confidence_threshold is None else card.confidence_threshold
    iou = _IOU if card.iou_threshold is None else card.iou_threshold
    size = resizer.width, resizer.height
    if kind == "FastestDet":
        return FastestDet(outputs, *size, confidence=confidence, iou=iou)
    return NanoDet(outputs, *size, len(card.labels), confidence=confidence, iou=iou)


def _by_model_api(
    kind: str, card: Card, outputs: Sequence[Port], resizer: Resizer, model: ov.Model | None
) -> Postprocessor | TensorsOnly:
    try:
        from cpuserve.serving.postprocess import modelapi  # noqa: PLC0415  # heavy, and an extra
    except ImportError as error:
        return TensorsOnly(f"model_type {kind!r} needs `pip install cpuserve[vision]`: {error}")
    size = resizer.width, resizer.height
    if kind in _MODEL_API_POINTS:
        points = modelapi.PointsOf(kind, model, card, outputs, *size)
        return Keypoints(points, card.labels, resizer, confidence=card.confidence_threshold or 0.0)
    if kind == "YOLO" and len(outputs) == 1 and len(outputs[0].row_shape) == 2:
        kind = "YOLOv8"  # Ultralytics' exporter calls all its models YOLO, v5 to 11
    return Detector(modelapi.BoxesOf(kind, model, card, outputs, *size), card.labels, resizer)
