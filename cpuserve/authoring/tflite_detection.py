"""Writes TensorFlow Lite's decoding of boxes (TFLite_Detection_PostProcess) as operations of OpenVINO.

Detectors from TensorFlow's Object Detection API end in this custom operation. It turns distances to anchors
into boxes, and drops those that overlap a better one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from cpuserve.models.quantisation import Dequantise

__all__ = ["DetectionStep", "detection_steps", "expand_detection"]

_OPERATION = b"TFLite_Detection_PostProcess"
_PER_CLASS = 100  # of `detections_per_class`, where the options do not say


@dataclass(frozen=True)
class DetectionStep:
    """One such operation of a file.

    Attributes:
        outputs: names of boxes, classes, scores and the number of detections.
        quantised: of boxes, scores and anchors, how their integers stand for real numbers; None for floats.
        options: of the operation, by name.
    """

    outputs: tuple[str, ...]
    quantised: tuple[Dequantise | None, ...]
    options: Mapping[str, Any]


def detection_steps(file: Path) -> list[DetectionStep]:
    """The operations of a file that decode boxes.

    Raises:
        ImportError: the reader of such files, an extra, is not installed.
    """
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415 - an extra
    from flatbuffers import flexbuffers  # noqa: PLC0415 - of the same extra

    model = schema.Model.GetRootAs(file.read_bytes())
    graph, found = model.Subgraphs(0), []
    for place in range(graph.OperatorsLength()):
        operator = graph.Operators(place)
        if model.OperatorCodes(operator.OpcodeIndex()).CustomCode() != _OPERATION:
            continue
        options = flexbuffers.Loads(operator.CustomOptionsAsNumpy().tobytes())
        inputs = [graph.Tensors(operator.Inputs(index)) for index in range(3)]
        outputs = [graph.Tensors(operator.Outputs(index)) for index in range(4)]
        names = tuple(tensor.Name().decode() for tensor in outputs)
        found.append(DetectionStep(names, tuple(_quantised(tensor) for tensor in inputs), options))
    return found


def expand_detection(model: ov.Model, steps: Sequence[DetectionStep]) -> None:
    """Replaces the placeholders of such operations in a graph; its outputs are those of the file.

    Args:
        model: as imported with placeholders; it is changed.
        steps: the operations in the file.
    """
    by_name = {
        name: port
        for node in model.get_ordered_ops()
        if node.get_type_name() != "Result"
        for port in node.outputs()
        for name in port.get_names()
    }
    for step in steps:
        ports = [by_name[name] for name in step.outputs]
        read = zip(ports[0].get_node().input_values(), step.quantised, strict=True)
        encoded, scores, anchors = [_real(value, how) for value, how in read]
        made = _detect(encoded, scores, anchors, step.options)
        for name, port, end in zip(step.outputs, ports, made, strict=True):
            port.set_names(set())
            port.replace(end)
            end.set_names({name})
    model.validate_nodes_and_infer_types()


def _quantised(tensor: Any) -> Dequantise | None:
    how = tensor.Quantization()
    if how is None or not how.ScaleLength() or not how.Scale(0):
        return None
    return Dequantise(scale=how.Scale(0), zero_point=how.ZeroPoint(0) if how.ZeroPointLength() else 0)


def _real(value: ov.Output, how: Dequantise | None) -> ov.Output:
    real = ops.convert(value, np.float32).output(0)
    if how is None or value.get_element_type().is_real():
        return real
    return ops.multiply(ops.subtract(real, np.float32(how.zero_point)), np.float32(how.scale)).output(0)


def _detect(
    encoded: ov.Output, scores: ov.Output, anchors: ov.Output, options: Mapping[str, Any]
) -> list[ov.Output]:
    """Boxes [1, N, 4] as top, left, bottom, right; classes [1, N]; scores [1, N]; their number [1].

    Args:
        encoded: boxes against their anchors, [1, A, 4] as y, x, height, width.
        scores: of each class, [1, A, C] or [1, A, 1 + C] with the background first.
        anchors: [A, 4] as centre y, centre x, height, width.
        options: of the operation.
    """
    boxes = _decoded(encoded, anchors, [options[f"{side}_scale"] for side in "yxhw"])
    classes = int(options["num_classes"])
    with_background = scores.get_partial_shape()[2].get_length()
    rows = ops.squeeze(_columns(scores, with_background - classes, with_background), np.array([0]))
    most = int(options["max_detections"])
    each = min(int(options.get("max_classes_per_detection", 1)), classes)
    limits = np.float32(options["nms_iou_threshold"]), np.float32(options["nms_score_threshold"])
    if options.get("use_regular_nms", False):
        per_class = int(options.get("detections_per_class", _PER_CLASS))
        by_class = ops.unsqueeze(ops.transpose(rows, np.array([1, 0])), np.array([0]))
        kept = ops.non_max_suppression(
            ops.unsqueeze(boxes, np.array([0])), by_class, np.int64(per_class), *limits, output_type="i64"
        )
        place, each = _column(kept.output(0), 2), 1
        names, values = ops.convert(_column(kept.output(0), 1), np.float32), _column(kept.output(1), 2)
        chosen = ops.gather(boxes, place, np.int64(0))
    else:
        best = ops.unsqueeze(ops.reduce_max(rows, np.array([1])), np.array([0, 1]))
        kept = ops.non_max_suppression(
            ops.unsqueeze(boxes, np.array([0])), best, np.int64(most), *limits, output_type="i64"
        )
        place = _column(kept.output(0), 2)
        top = ops.topk(
            ops.gather(rows, place, np.int64(0)), np.int64(each), 1, "max", "value", index_element_type="i64"
        )
        names = ops.reshape(ops.convert(top.output(1), np.float32), np.array([-1]), special_zero=False)
        values = ops.reshape(top.output(0), np.array([-1]), special_zero=False)
        repeated = ops.tile(ops.gather(boxes, place, np.int64(0)), np.array([1, each]))
        chosen = ops.reshape(repeated, np.array([-1, 4]), special_zero=False)
    number = ops.minimum(ops.shape_of(place, "i64"), np.array([most]))
    count = ops.convert(number, np.float32)
    filled = [_filled(value, most * each) for value in (chosen, names, values)]
    return [*filled, count.output(0)]


def _decoded(encoded: ov.Output, anchors: ov.Output, scales: Sequence[float]) -> ov.Node:
    """Boxes [A, 4] as top, left, bottom, right."""
    scaled = ops.divide(ops.squeeze(_columns(encoded, 0, 4), np.array([0])), np.array([scales], np.float32))
    size = ops.multiply(ops.exp(_columns(scaled, 2, 4)), _columns(anchors, 2, 4))
    centre = ops.add(ops.multiply(_columns(scaled, 0, 2), _columns(anchors, 2, 4)), _columns(anchors, 0, 2))
    half = ops.multiply(size, np.float32(0.5))
    return ops.concat([ops.subtract(centre, half), ops.add(centre, half)], 1)


def _columns(value: Any, first: int, last: int) -> ov.Node:
    """Some places of the last axis."""
    return ops.slice(value, np.array([first]), np.array([last]), np.array([1]), np.array([-1]))


def _column(value: ov.Output, place: int) -> ov.Node:
    """One column of [N, 3], as [N]."""
    return ops.gather(value, np.int64(place), np.int64(1))


def _filled(value: ov.Node, length: int) -> ov.Output:
    """The first rows of a value, filled up with zeros, behind an axis of one for the picture."""
    shape = value.output(0).get_partial_shape()
    zeros = np.zeros([length, *(side.get_length() for side in list(shape)[1:])], np.float32)
    whole = ops.concat([value, ops.constant(zeros)], 0)
    cut = ops.slice(whole, np.array([0]), np.array([length]), np.array([1]), np.array([0]))
    return ops.unsqueeze(cut, np.array([0])).output(0)
