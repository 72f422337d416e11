"""Boxes that the model has chosen itself: any number of them, in every form that exporters have."""

from __future__ import annotations

import numpy as np
import pytest

from cpuserve.models.card import Card
from cpuserve.serving.engine import Port
from cpuserve.serving.picture_input import PictureSize
from cpuserve.serving.postprocess import OutputEvidence, TensorsOnly, postprocessor
from cpuserve.serving.preprocess import Resizer

SIZE = Resizer(64, 32)
FRAME = PictureSize(640, 320)  # ten times the input
LABELS = ("a", "b", "c")


def answer(card, *outputs, names=(), evidence=()):
    """What is answered to outputs of one row, which have no batch."""
    names = names or [f"output{place}" for place in range(len(outputs))]
    ports = [Port((name,), output.dtype, output.shape) for name, output in zip(names, outputs, strict=True)]
    post = postprocessor(card, ports, SIZE, evidence)
    assert not isinstance(post, TensorsOnly), post.reason
    return post.answer([np.array(output) for output in outputs], None, FRAME)["detections"]


def shown(found):
    return [(one["class_id"], one["label"], one["probability"], one["box"]) for one in found]


BOXES = np.array([[1, 2, 11, 12], [20, 4, 40, 24], [0, 0, 5, 5]], np.float32)
SCORES = np.array([0.75, 0.875, 0.25], np.float32)
CLASSES = np.array([2, 1, 0])
WANTED = [(1, "b", 0.875, [200, 40, 400, 240]), (2, "c", 0.75, [10, 20, 110, 120])]
SHARES = BOXES / np.array([64, 32, 64, 32], np.float32)


def detection_output(kept=3):
    rows = np.zeros((1, 1, 5, 7), np.float32)
    rows[..., 0] = -1  # the end of the list: what follows means nothing
    rows[0, 0, :kept] = np.column_stack([np.zeros(3), CLASSES, SCORES, SHARES])[:kept]
    rows[0, 0, kept:, 2] = 0.9
    return rows


FORMS = {
    "DetectionOutput": ([detection_output()], ["detection_out"]),
    "DetectionOutput of a row": ([detection_output()[0]], ["detection_out"]),
    "boxes with scores": ([np.column_stack([BOXES, SCORES]), CLASSES], ["boxes", "labels"]),
    "labels first": ([CLASSES, np.column_stack([BOXES, SCORES])], ["labels", "dets"]),
    "torchvision": ([BOXES, CLASSES, SCORES], ["boxes", "labels", "scores"]),
    "without names": ([SCORES, CLASSES, BOXES], ["815", "816", "817"]),
    "shares": ([SHARES, CLASSES, SCORES], ["boxes", "labels", "scores"]),
    "classes in f32": ([BOXES, SCORES, CLASSES.astype(np.float32)], ["boxes", "scores", "classes"]),
}


@pytest.mark.parametrize("judged", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_finds_says_the_same(form, judged):
    outputs, names = FORMS[form]
    card = Card(model_type="" if judged else "ssd", labels=LABELS)
    assert shown(answer(card, *outputs, names=names)) == WANTED


@pytest.mark.parametrize("form", FORMS)
def test_no_finds_are_an_empty_list(form):
    outputs, names = FORMS[form]
    outputs = [detection_output(0)] if len(outputs) == 1 else [output[:0] for output in outputs]
    assert answer(Card(labels=LABELS), *outputs, names=names) == []


def test_the_number_of_finds_may_vary():
    ports = [
        Port(("out_boxes",), np.dtype("f4"), (-1, 4)),
        Port(("labels",), np.dtype("i8"), (-1,)),
        Port(("scores",), np.dtype("f4"), (-1,)),
    ]
    post = postprocessor(Card(labels=LABELS), ports, SIZE)
    for kept in (0, 1, 3):
        found = post.answer([BOXES[:kept], CLASSES[:kept], SCORES[:kept]], None, FRAME)["detections"]
        assert len(found) == min(kept, 2)


@pytest.mark.parametrize("background", [True, False])
def test_tensorflows_detection_api_counts_classes_from_one_and_says_how_many(background):
    yxyx = SHARES[:, [1, 0, 3, 2]]
    padded = [np.concatenate([part, part[:1]]) for part in (yxyx, CLASSES.astype(np.float32) + 1, SCORES)]
    names = ["detection_boxes", "detection_classes", "detection_scores", "num_detections"]
    labels = ("background", *LABELS) if background else LABELS
    found = answer(Card(labels=labels), *padded, np.array([3], np.float32), names=names)
    assert shown(found) == [(index + 1, label, score, box) for index, label, score, box in WANTED]


@pytest.mark.parametrize("unnamed", [True, False])
def test_tflites_four_outputs_count_classes_from_zero(unnamed):
    yxyx = SHARES[:, [1, 0, 3, 2]]
    outputs = [yxyx, CLASSES.astype(np.float32), SCORES, np.array([2], np.float32)]
    names = ["TFLite_Detection_PostProcess", *(f"TFLite_Detection_PostProcess:{n}" for n in (1, 2, 3))]
    labels = ("???", *LABELS) if unnamed else LABELS
    for kind in ("", "SSD"):
        assert shown(answer(Card(model_type=kind, labels=labels), *outputs, names=names)) == WANTED


@pytest.mark.parametrize("kind", ["", "YOLOv10", "YOLO26", "YOLO", "YOLOv8"])
def test_finds_of_six_numbers(kind):
    rows = np.zeros((300, 6), np.float32)
    rows[:3] = np.column_stack([BOXES, SCORES, CLASSES])
    chosen = [OutputEvidence(chosen=True)]
    assert shown(answer(Card(model_type=kind, labels=LABELS), rows, evidence=chosen))[:2] == WANTED
    assert answer(Card(model_type=kind, labels=LABELS), rows[:0], evidence=chosen) == []
    rows[:3, :4] = SHARES
    assert shown(answer(Card(model_type=kind, labels=LABELS), rows, evidence=chosen))[:2] == WANTED
    rows[:3, :4] = np.concatenate([(BOXES[:, :2] + BOXES[:, 2:]) / 2, BOXES[:, 2:] - BOXES[:, :2]], axis=1)
    middles = Card(model_type=kind or "YOLOv10", labels=LABELS, box_format="cxcywh", box_unit="pixels")
    assert shown(answer(middles, rows))[:2] == WANTED


@pytest.mark.parametrize(
    ("outputs", "names"),
    [
        ([np.zeros((10, 3), np.int64)], ["sel"]),
        ([BOXES, SCORES], ["boxes", "scores"]),
        ([BOXES, SCORES, SCORES], ["a", "b", "c"]),
        ([np.zeros((300, 6), np.float32)], ["a table that nothing chose"]),
        ([np.zeros((25, 4), np.float32)], ["boxes"]),
    ],
)
def test_other_outputs_are_no_finds(outputs, names):
    ports = [Port((name,), output.dtype, output.shape) for name, output in zip(names, outputs, strict=True)]
    post = postprocessor(Card(), ports, SIZE)
    assert isinstance(post, TensorsOnly)
    if outputs[0].shape != (300, 6):
        refused = postprocessor(Card(model_type="SSD"), ports, SIZE)
        assert isinstance(refused, TensorsOnly)
        assert "SSD has one output [1, 1, k, 7], " in refused.reason
