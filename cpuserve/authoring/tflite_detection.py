"""Writes TensorFlow Lite's decoding of boxes (TFLite_Detection_PostProcess) as operations of OpenVINO.

Detectors from TensorFlow's Object Detection API end in this custom operation. It turns distances to anchors
into boxes, and drops those that overlap a better one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

__all__ = ["detect"]

_PER_CLASS = 100  # of `detections_per_class`, where the options do not say


def detect(
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
