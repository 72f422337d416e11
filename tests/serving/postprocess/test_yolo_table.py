"""YOLO's table of boxes, however it is laid out, and what stands behind the class scores, by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest

from cpuserve.models.card import Card
from cpuserve.serving.picture_input import PictureSize
from cpuserve.serving.postprocess import TensorsOnly, postprocessor
from cpuserve.serving.preprocess import Resizer
from tests.serving.postprocess.rows import ports, row

SIZE = Resizer(64, 32)
CELLS = 8 * 4 + 4 * 2 + 2 * 1
LABELS = ("a", "b", "c")
WANTED = [240, 80, 400, 240]


def table(*more, boxes=CELLS):
    """[1, 4 + 3 + more, boxes]: one box of class b, and its double that is worth less."""
    found = np.zeros((1, 7 + len(more), boxes), np.float32)
    found[0, :, 5] = (32, 16, 16, 16, 0.1, 0.75, 0, *more)
    found[0, :, 6] = (32.5, 16, 16, 16, 0, 0.5, 0, *more)
    return found


def answer(card, *outputs):
    post = postprocessor(card, ports(*outputs), SIZE)
    assert not isinstance(post, TensorsOnly), post.reason
    return post.answer(row(*outputs), None, PictureSize(640, 320))["detections"]


def shares(found):
    found = found.copy()
    found[:, :4] /= np.array([64, 32, 64, 32], np.float32).reshape(1, 4, 1)
    return found


def yolov5():
    """[1, 3 * cells, 5 + C], with a score for "anything"."""
    plain = table(boxes=3 * CELLS)
    scored = np.concatenate([plain[:, :4], np.full((1, 1, 3 * CELLS), 0.8, np.float32), plain[:, 4:]], axis=1)
    return scored.transpose(0, 2, 1)


@pytest.mark.parametrize("kind", ["", "YOLO", "YOLOv8", "YOLO11"])
@pytest.mark.parametrize("form", ["pixels", "shares", "rows first"])
def test_every_layout_says_the_same(kind, form):
    raw = {"pixels": table(), "shares": shares(table()), "rows first": table().transpose(0, 2, 1)}[form]
    (found,) = answer(Card(model_type=kind, labels=LABELS), raw)
    assert (found["label"], found["probability"], found["box"]) == ("b", 0.75, WANTED)


def test_a_box_larger_than_the_input_does_not_make_pixels_of_shares():
    raw = shares(table())
    raw[0, 2:4, 5] = 3
    (found,) = answer(Card(model_type="YOLOv8", labels=LABELS, iou_threshold=0.01), raw)
    assert found["box"] == [0, 0, 640, 320]


@pytest.mark.parametrize("kind", ["", "YOLOv5"])
def test_a_score_for_anything_is_multiplied(kind):
    (found,) = answer(Card(model_type=kind, labels=LABELS), yolov5())
    assert (found["label"], found["probability"], found["box"]) == ("b", pytest.approx(0.6), WANTED)
    if kind:
        assert answer(Card(model_type=kind), yolov5()) == [{**found, "label": "1"}]


@pytest.mark.parametrize("kind", ["", "YOLO-seg"])
def test_a_segmentation_of_things_answers_with_its_boxes(kind):
    for sides in ((1, 32, 8, 16), (1, 8, 16, 32)):
        masks = np.zeros(sides, np.float32)
        (found,) = answer(Card(model_type=kind, labels=LABELS), table(*np.full(32, 3.0)), masks)
        assert (found["label"], found["box"]) == ("b", WANTED)


@pytest.mark.parametrize("form", ["pixels", "shares"])
def test_keypoints_come_with_their_box(form):
    raw = table(30, 10, 0.5, 8, 4, 0.25)
    if form == "shares":
        raw = shares(raw)
        raw[:, [7, 10]] /= 64
        raw[:, [8, 11]] /= 32
    (found,) = answer(Card(model_type="YOLO-pose", labels=LABELS), raw)
    assert (found["label"], found["box"]) == ("b", WANTED)
    assert found["keypoints"] == [
        {"point": [300, 100], "probability": 0.5},
        {"point": [80, 40], "probability": 0.25},
    ]


def test_turned_boxes_have_their_corners():
    raw = table(np.pi / 2)
    raw[0, 2:4, [5, 6]] = 16, 8
    (found,) = answer(Card(model_type="YOLO-obb", labels=LABELS), raw)
    assert found["box"] == pytest.approx([280, 80, 360, 240], abs=0.2)  # upright after a quarter turn
    corners = sorted(tuple(point) for point in found["polygon"])
    assert np.ravel(corners) == pytest.approx([280, 80, 280, 240, 360, 80, 360, 240], abs=0.2)


@pytest.mark.parametrize(
    ("kind", "labels", "outputs", "words"),
    [
        ("YOLOv8", 2, [table()], r"6 numbers a box for 2 labels: this has output0 \[N, 7, 42\], 7 numbers"),
        ("YOLOv8", 4, [table()], "8 numbers a box"),
        ("YOLOv8", 0, [table().transpose(0, 2, 1)], "only labels tell"),
        ("YOLO-seg", 3, [table(), np.zeros((1, 32, 8, 16), np.float32)], "32 more"),
        ("YOLO-seg", 3, [table()], "YOLO-seg has"),
        ("YOLO-pose", 3, [table()], "YOLO-pose has"),
        ("YOLO-obb", 3, [table()], "and 1 more"),
    ],
)
def test_tables_of_other_sizes_are_refused(kind, labels, outputs, words):
    post = postprocessor(Card(model_type=kind, labels=("x",) * labels), ports(*outputs), SIZE)
    assert isinstance(post, TensorsOnly)
    assert re.search(words, post.reason), post.reason
