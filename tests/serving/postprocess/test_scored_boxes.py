"""Boxes with a score for every class: DETR, its family, UltraFace, and YOLO in two outputs, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cpuserve.models.card import Card
from cpuserve.serving.picture_input import PictureSize
from cpuserve.serving.postprocess import OutputEvidence, TensorsOnly, postprocessor
from cpuserve.serving.preprocess import Resizer
from tests.serving.postprocess.rows import logit, ports, row

SIZE = Resizer(64, 32)
LABELS = ("a", "b", "c")
BOX = np.array([0.5, 0.5, 0.25, 0.5], np.float32)  # middle and size, shares
WANTED = [240, 80, 400, 240]


def post(card, *outputs, names, evidence=()):
    return postprocessor(card, ports(*outputs, names=names), SIZE, evidence)


def answer(card, *outputs, names, evidence=()):
    made = post(card, *outputs, names=names, evidence=evidence)
    assert not isinstance(made, TensorsOnly), made.reason
    return made.answer(row(*outputs), None, PictureSize(640, 320))["detections"]


def queries(classes, best, probability):
    scores = np.full((1, 5, classes), -9, np.float32)
    scores[0, 3, best] = probability
    boxes = np.zeros((1, 5, 4), np.float32)
    boxes[0, 3] = BOX
    return scores, boxes


@pytest.mark.parametrize("kind", ["", "RT-DETR", "RF-DETR", "DETR"])
def test_scores_of_as_many_classes_as_labels_are_sigmoids(kind):
    scores, boxes = queries(3, 1, logit(0.75))
    card = Card(model_type=kind, labels=LABELS)
    (found,) = answer(card, boxes, scores, names=["dets", "labels"])
    assert (found["label"], found["probability"], found["box"]) == ("b", pytest.approx(0.75), WANTED)


@pytest.mark.parametrize("kind", ["", "DETR"])
def test_one_class_more_than_labels_is_nothing(kind):
    scores, boxes = queries(4, 1, 9)
    scores[0, :, 3] = 5  # nothing is there, but in the fourth query
    scores[0, 2] = (0, 0, 0, 30)
    card = Card(model_type=kind, labels=LABELS)
    (found,) = answer(card, scores, boxes, names=["logits", "pred_boxes"])
    share = 1 / (1 + np.exp(-4) + 2 * np.exp(-18))
    assert (found["label"], found["probability"], found["box"]) == (
        "b",
        pytest.approx(share, abs=1e-5),
        WANTED,
    )


def test_cocos_classes_are_known_by_their_number():
    for classes, index, score in ((92, 90, 9), (91, 90, logit(0.75)), (80, 79, logit(0.75))):
        scores, boxes = queries(classes, index, score)
        if classes == 92:
            scores[0, [0, 1, 2, 4], 91] = 9
        (found,) = answer(Card(), scores, boxes, names=["pred_logits", "pred_boxes"])
        assert found["class_id"] == index
    made = post(Card(), *queries(7, 1, 9), names=["pred_logits", "pred_boxes"])
    assert isinstance(made, TensorsOnly)


def test_one_table_of_boxes_and_scores_by_query():
    table = np.zeros((1, 5, 7), np.float32)
    table[0, 3] = (*BOX, 0.1, 0.75, 0)
    given = {"names": ["output0"], "evidence": [OutputEvidence(chosen=True)]}
    for kind in ("", "RT-DETR"):
        (found,) = answer(Card(model_type=kind, labels=LABELS), table, **given)
        assert (found["label"], found["probability"], found["box"]) == ("b", 0.75, WANTED)


def face_outputs(size):
    boxes = np.zeros((1, size, 4), np.float32)
    scores = np.zeros((1, size, 2), np.float32)
    scores[..., 0] = 1
    scores[0, [7, 8, 40], 1] = 0.75, 0.875, 0.9
    boxes[0, [7, 8, 40]] = (0.25, 0.5, 0.5, 1), (0.26, 0.5, 0.5, 1), (0.75, 0, 1, 0.5)
    return scores, boxes


@pytest.mark.parametrize("swapped", [False, True])
def test_ultraface_finds_faces(swapped):
    size = 8 * 4 * 3 + 4 * 2 * 2 + 2 * 1 * 2 + 1 * 1 * 3
    outputs, names = face_outputs(size), ["scores", "boxes"]
    known = [OutputEvidence("softmax", -1), OutputEvidence()]
    if swapped:
        outputs, names, known = outputs[::-1], names[::-1], known[::-1]
    for kind in ("", "UltraFace"):
        found = answer(Card(model_type=kind), *outputs, names=names, evidence=known)
        assert [(one["class_id"], one["label"], one["probability"]) for one in found] == [
            (1, "face", 0.9),
            (1, "face", 0.875),
        ]
        assert found[1]["box"] == pytest.approx([166.4, 160, 320, 320])


def test_yolo_in_two_outputs():
    scores, boxes = np.zeros((1, 42, 3), np.float32), np.zeros((1, 42, 4), np.float32)
    scores[0, [5, 6], 1] = 0.75, 0.5
    boxes[0, [5, 6]] = (24, 8, 40, 24), (25, 8, 40, 24)
    known = [OutputEvidence("sigmoid"), OutputEvidence()]
    for kind in ("", "YOLO"):
        card = Card(model_type=kind, labels=LABELS)
        (found,) = answer(card, scores, boxes, names=["scores", "boxes"], evidence=known)
        assert (found["label"], found["probability"], found["box"]) == ("b", 0.75, WANTED)
