"""The model types, and what reads the outputs of each."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cpuserve.errors import MissingExtra
from cpuserve.serving.engine import Array, Port
from cpuserve.serving.postprocess.answers import Postprocessor
from cpuserve.serving.postprocess.classification import Classifier, MultilabelClassifier
from cpuserve.serving.postprocess.detection import Detector, Head
from cpuserve.serving.postprocess.evidence import ARGMAX, SIGMOID, SOFTMAX
from cpuserve.serving.postprocess.found_boxes import ChosenRows, FoundBoxes
from cpuserve.serving.postprocess.heads import FastestDet, NanoDet
from cpuserve.serving.postprocess.judge import like_input, map_sides
from cpuserve.serving.postprocess.keypoints import Keypoints, Points
from cpuserve.serving.postprocess.model_outputs import CONFIDENCE, Outputs
from cpuserve.serving.postprocess.pose_heads import BlazePose, MoveNet
from cpuserve.serving.postprocess.scored_boxes import ScoredBoxes, box_and_score_places
from cpuserve.serving.postprocess.scrfd import Scrfd
from cpuserve.serving.postprocess.segmentation import Segmenter
from cpuserve.serving.postprocess.text import CtcText, ctc_alphabet
from cpuserve.serving.postprocess.text_regions import TextRegions
from cpuserve.serving.postprocess.yolo_fastest import YoloFastestV2
from cpuserve.serving.postprocess.yolo_table import PoseTable, TurnedTable, YoloTable

if TYPE_CHECKING:
    pass

__all__ = ["MODEL_TYPES", "Outputs", "known_type", "near_types"]

MOST_QUERIES = 1000  # of a model that chooses its finds itself
_NOTHING = (
    "background",
    "__background__",
    "???",
    "unlabeled",
    "n/a",
)  # what stands for class 0 in label files


Builder = Callable[[str, Outputs], Postprocessor]


def known_type(text: str) -> str:
    """A model type as it is written here; empty for another word."""
    return next((known for known in MODEL_TYPES if known.lower() == text.lower()), "")


def near_types(text: str) -> list[str]:
    """The model types most like a word."""
    lower = {known.lower(): known for known in MODEL_TYPES}
    return [lower[near] for near in difflib.get_close_matches(text.lower(), lower, n=3, cutoff=0.5)]


def _classification(_kind: str, outputs: Outputs) -> Postprocessor:
    card, known = outputs.card, outputs.evidence[0]
    shape = outputs.ports[0].row_shape
    sides = [size for size in shape if size != 1]
    if len(outputs.ports) != 1 or len(sides) > 1 or -1 in sides:
        raise ValueError(f"Classification has one output [N, classes]: this has {outputs.shown()}")
    count = sides[0] if sides else 1
    if count == 1 and len(card.labels) > 2:
        raise ValueError(f"one score is that of one or two classes, and there are {len(card.labels)} labels")
    logits = known.function not in (SOFTMAX, SIGMOID)
    scaling = {"scale": known.scale, "offset": known.offset}
    alone = known.function == SIGMOID and count > 1
    multilabel = card.multilabel if card.multilabel is not None else alone
    if multilabel or (count == 1 and len(card.labels) == 1):
        return MultilabelClassifier(card.labels, confidence=outputs.confidence, logits=logits, **scaling)
    return Classifier(card.labels, topk=card.topk or 5, softmax=logits, **scaling)


def _segmentation(_kind: str, outputs: Outputs) -> Postprocessor:
    labels, known = outputs.card.labels, outputs.evidence[0]
    port = outputs.ports[0]
    sides = map_sides(port.row_shape, known, len(labels))
    if len(outputs.ports) != 1 or sides is None:
        raise ValueError(
            f"Segmentation has one output [N, C, H, W], [N, H, W, C] or [N, H, W]: this has {outputs.shown()}"
        )
    share = outputs.confidence
    alone = known.function == SIGMOID
    scored = port.dtype.kind == "f" or not known.exact
    one = sides[2] == 1 or (sides[2] is None and alone)
    if alone or (one and scored and known.function != ARGMAX):
        # logits are compared before the sigmoid that they do not have
        least = (share if alone else _logit(share)) * known.scale + known.offset
        return Segmenter(labels, None if one else _axis(port, sides), outputs.resizer, least=least)
    if not one and sides[2] is not None:
        return Segmenter(labels, _axis(port, sides), outputs.resizer)
    if scored and known.function != ARGMAX:
        raise ValueError(
            f"class ids are whole numbers, and nothing says that those of {outputs.shown()} "
            f"({port.dtype.name}) are"
        )
    return Segmenter(labels, None, outputs.resizer)


def _axis(port: Port, sides: tuple[int, int, int | None]) -> int:
    return -1 if tuple(port.row_shape) == (*sides[:2], sides[2]) else -3


def _logit(share: float) -> float:
    share = min(max(share, 1e-6), 1 - 1e-6)
    return math.log(share / (1 - share))


def _fastestdet(_kind: str, outputs: Outputs) -> Postprocessor:
    head = FastestDet(outputs.ports, *outputs.size, confidence=outputs.confidence, iou=outputs.iou)
    return _detector(head, outputs)


def _nanodet(_kind: str, outputs: Outputs) -> Postprocessor:
    labels = len(outputs.card.labels)
    return _detector(
        NanoDet(outputs.ports, *outputs.size, labels, confidence=outputs.confidence, iou=outputs.iou), outputs
    )


def _detector(head: Head, outputs: Outputs) -> Postprocessor:
    return Detector(head, outputs.card.labels, outputs.resizer)


def _chosen_rows(_kind: str, outputs: Outputs) -> Postprocessor:
    card = outputs.card
    head = ChosenRows(
        outputs.ports,
        *outputs.size,
        confidence=outputs.least(0.25),
        order=card.box_format,
        unit=card.box_unit,
    )
    return _detector(head, outputs)


def _found_boxes(_kind: str, outputs: Outputs) -> Postprocessor:
    card = outputs.card
    head = FoundBoxes(
        outputs.ports,
        *outputs.size,
        confidence=outputs.confidence,
        iou=outputs.iou if card.nms_execute else None,
        order=card.box_format,
        unit=card.box_unit,
    )
    labels = card.labels
    named = bool(labels) and labels[0].lower() in _NOTHING
    if head.counts_from and labels and not named:
        labels = ("background", *labels)
    if head.counts_from == 0 and named:
        labels = labels[1:]
    return Detector(head, labels, outputs.resizer)


def _detr(kind: str, outputs: Outputs) -> Postprocessor:
    """Boxes and class scores by query; a class for "nothing" may come last."""
    card, labels = outputs.card, len(outputs.card.labels)
    given: dict[str, Any] = {"order": card.box_format or "cxcywh", "unit": card.box_unit or "share"}
    given["confidence"] = outputs.confidence
    shape = outputs.ports[0].row_shape
    if len(outputs.ports) == 1 and len(shape) == 2 and shape[1] >= 5 and shape[0] <= MOST_QUERIES:
        if labels and shape[1] != 4 + labels:
            raise ValueError(f"{kind} has one output [N, queries, {4 + labels}]: this has {outputs.shown()}")
        return _detector(ScoredBoxes((0, 0), *outputs.size, **given), outputs)
    places = box_and_score_places(outputs.ports)
    if places is None:
        raise ValueError(
            f"{kind} has boxes [N, queries, 4] and scores [N, queries, classes]: this has {outputs.shown()}"
        )
    known, classes = outputs.evidence[places[1]].function, outputs.ports[places[1]].row_shape[1]
    if labels and classes not in (labels, labels + 1):
        raise ValueError(f"{kind} has {classes} scores a query, and there are {labels} labels")
    nothing = known == SOFTMAX or (known != SIGMOID and (classes == labels + 1 if labels else kind == "DETR"))
    if nothing and classes < 2:
        raise ValueError(
            f"{kind} has a score for nothing beside those of classes: this has {outputs.shown()}"
        )
    given["activation"] = "" if known in (SOFTMAX, SIGMOID) else "softmax" if nothing else "sigmoid"
    return _detector(ScoredBoxes(places, *outputs.size, background=-1 if nothing else None, **given), outputs)


def _ultraface(_kind: str, outputs: Outputs) -> Postprocessor:
    places = box_and_score_places(outputs.ports)
    if places is None or outputs.ports[places[1]].row_shape[1] != 2:
        raise ValueError(f"UltraFace has scores [N, k, 2] and boxes [N, k, 4]: this has {outputs.shown()}")
    card = outputs.card
    known = outputs.evidence[places[1]].function
    head = ScoredBoxes(
        places,
        *outputs.size,
        confidence=outputs.least(0.7),
        activation="" if known == SOFTMAX else "softmax",
        background=0,
        iou=0.3 if card.iou_threshold is None else card.iou_threshold,
        order=card.box_format or "xyxy",
        unit=card.box_unit or "share",
    )
    return Detector(head, card.labels if len(card.labels) > 1 else ("background", "face"), outputs.resizer)


def _yolo(kind: str, outputs: Outputs) -> Postprocessor:
    """What Ultralytics exports: a table of boxes, finds [k, 6], or boxes and scores in two outputs."""
    ports, card = outputs.ports, outputs.card
    shapes = [port.row_shape for port in ports]
    if len(ports) == 1 and len(shapes[0]) == 2 and shapes[0][1] == 6 and 0 <= shapes[0][0] <= MOST_QUERIES:
        return _chosen_rows(kind, outputs)
    places = box_and_score_places(ports)
    if places is not None:
        head = ScoredBoxes(
            places,
            *outputs.size,
            confidence=outputs.least(0.25),
            activation="" if outputs.evidence[places[1]].function else "sigmoid",
            iou=0.7 if card.iou_threshold is None else card.iou_threshold,
            order=card.box_format or "xyxy",
            unit=card.box_unit,
        )
        return _detector(head, outputs)
    if len(ports) != 1 or len(shapes[0]) != 2:
        return _by_model_api(kind, outputs)
    layout = YoloTable.of(ports[0], len(card.labels), *outputs.size, unit=card.box_unit)
    return _table_by_model_api("YOLOv8" if kind == "YOLO" else kind, layout, outputs)


def _yolo_seg(_kind: str, outputs: Outputs) -> Postprocessor:
    """The boxes of a segmentation of single things; the masks are left to whoever asks for tensors."""
    ports = [port for port in outputs.ports if len(port.row_shape) == 2]
    others = [port for port in outputs.ports if len(port.row_shape) == 3]
    if len(ports) != 1 or len(others) != 1 or outputs.ports[0] is not ports[0]:
        raise ValueError(
            f"YOLO-seg has [N, 4 + C + masks, boxes] and [N, masks, H, W]: this has {outputs.shown()}"
        )
    card, sides = outputs.card, others[0].row_shape
    left = min(ports[0].row_shape) - 4 - len(card.labels)
    masks = sides[2] if card.labels and left == sides[2] else sides[0]  # TensorFlow's exports end in them
    layout = YoloTable.of(ports[0], len(card.labels), *outputs.size, more=masks, unit=card.box_unit)
    return _table_by_model_api("YOLOv8", layout, outputs)


def _yolo_pose(_kind: str, outputs: Outputs) -> Postprocessor:
    card = outputs.card
    layout = YoloTable.of(
        outputs.ports[0], len(card.labels) or 1, *outputs.size, more=None, unit=card.box_unit
    )
    rest = layout.channels - 4 - layout.classes
    numbers = 3 if rest % 3 == 0 else 2
    if len(outputs.ports) != 1 or not rest or rest % numbers:
        raise ValueError(
            f"YOLO-pose has one output [N, 4 + C + 3 * points, boxes]: this has {outputs.shown()}"
        )
    iou = 0.7 if card.iou_threshold is None else card.iou_threshold
    return _detector(PoseTable(layout, rest // numbers, numbers, outputs.least(0.25), iou), outputs)


def _yolo_obb(_kind: str, outputs: Outputs) -> Postprocessor:
    card = outputs.card
    layout = YoloTable.of(outputs.ports[0], len(card.labels), *outputs.size, more=1, unit=card.box_unit)
    iou = 0.7 if card.iou_threshold is None else card.iou_threshold
    return _detector(TurnedTable(layout, outputs.least(0.25), iou), outputs)


def _table_by_model_api(kind: str, layout: YoloTable, outputs: Outputs) -> Postprocessor:
    plain = replace(outputs, ports=[layout.plain])
    boxes = _model_api().BoxesOf(kind, outputs.model, outputs.card, plain.ports, *outputs.size)
    return _detector(lambda rows: boxes([layout.table(rows[0])]), outputs)


def _model_api() -> Any:
    try:
        from cpuserve.serving.postprocess import modelapi  # noqa: PLC0415  # heavy, and an extra
    except ImportError as error:
        raise MissingExtra(f"this model_type needs Model API ({error})", "vision") from error
    return modelapi


def _by_model_api(kind: str, outputs: Outputs) -> Postprocessor:
    given = outputs.model, outputs.card, outputs.ports, *outputs.size
    if kind == "keypoint_detection":
        return _keypoints(_model_api().PointsOf(kind, *given), outputs)
    return _detector(_model_api().BoxesOf(kind, *given), outputs)


def _keypoints(head: Callable[[Sequence[Array]], Points], outputs: Outputs) -> Postprocessor:
    return Keypoints(head, outputs.card.labels, outputs.resizer, confidence=outputs.least(0.0))


def _movenet(_kind: str, outputs: Outputs) -> Postprocessor:
    return _keypoints(MoveNet(outputs.ports, *outputs.size), outputs)


def _blazepose(_kind: str, outputs: Outputs) -> Postprocessor:
    return _keypoints(BlazePose(outputs.ports, confidence=CONFIDENCE), outputs)


def _scrfd(_kind: str, outputs: Outputs) -> Postprocessor:
    iou = 0.4 if outputs.card.iou_threshold is None else outputs.card.iou_threshold
    head = Scrfd(outputs.ports, *outputs.size, confidence=outputs.confidence, iou=iou)
    return Detector(head, outputs.card.labels or ("face",), outputs.resizer)


def _yolo_fastest(_kind: str, outputs: Outputs) -> Postprocessor:
    head = YoloFastestV2(
        outputs.ports,
        *outputs.size,
        len(outputs.card.labels),
        confidence=outputs.least(0.3),
        iou=outputs.iou,
    )
    return _detector(head, outputs)


def _text(_kind: str, outputs: Outputs) -> Postprocessor:
    shape = [side for side in outputs.ports[0].row_shape if side != 1]
    classes = shape[-1] if shape else 0
    alphabet = ctc_alphabet(outputs.card.labels, classes)
    if len(outputs.ports) != 1 or len(shape) != 2 or alphabet is None:
        raise ValueError(
            "PaddleOCR-rec has one output [N, steps, classes], and labels for all classes but the blank and "
            f"the space: this has {outputs.shown()}, and {len(outputs.card.labels)} labels"
        )
    return CtcText(alphabet, softmax=outputs.evidence[0].function != SOFTMAX)


def _text_regions(_kind: str, outputs: Outputs) -> Postprocessor:
    sides = map_sides(outputs.ports[0].row_shape, outputs.evidence[0], 1)
    fits = sides is not None and sides[2] in (None, 1) and like_input(*sides[:2], *outputs.size)
    if len(outputs.ports) != 1 or not fits:
        raise ValueError(f"PaddleOCR-det has one output [N, 1, H, W]: this has {outputs.shown()}")
    head = TextRegions(*outputs.size, confidence=outputs.least(0.6))
    return Detector(head, outputs.card.labels or ("text",), outputs.resizer)


MODEL_TYPES: dict[str, Builder] = {
    "Classification": _classification,
    "Segmentation": _segmentation,
    "SSD": _found_boxes,
    "YOLO": _yolo,
    "YOLOV4": _by_model_api,
    "YOLOF": _by_model_api,
    "YOLOX": _by_model_api,
    "YOLOv5": _yolo,
    "YOLOv8": _yolo,
    "YOLO11": _yolo,
    "YOLOv10": _chosen_rows,
    "YOLO26": _yolo,
    "YOLO-seg": _yolo_seg,
    "YOLO-pose": _yolo_pose,
    "YOLO-obb": _yolo_obb,
    "DETR": _detr,
    "RT-DETR": _detr,
    "RF-DETR": _detr,
    "FastestDet": _fastestdet,
    "NanoDet": _nanodet,
    "UltraFace": _ultraface,
    "SCRFD": _scrfd,
    "YOLO-FastestV2": _yolo_fastest,
    "keypoint_detection": _by_model_api,
    "MoveNet": _movenet,
    "BlazePose": _blazepose,
    "PaddleOCR-det": _text_regions,
    "PaddleOCR-rec": _text,
}
