"""Faces, poses, texts and Yolo-FastestV2, by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cpuserve.models.card import Card
from cpuserve.serving.engine import Port
from cpuserve.serving.picture_input import PictureSize
from cpuserve.serving.postprocess import MODEL_TYPES, OutputEvidence, TensorsOnly, postprocessor
from cpuserve.serving.preprocess import Resizer
from tests.serving.postprocess.rows import logit

SIZE = Resizer(64, 32)
FRAME = PictureSize(640, 320)  # ten times the input


def answer(card, *outputs, evidence=(), size=SIZE, frame=FRAME):
    """What is answered to the outputs of one row."""
    ports = [Port((f"output{place}",), output.dtype, output.shape) for place, output in enumerate(outputs)]
    post = postprocessor(card, ports, size, evidence)
    assert not isinstance(post, TensorsOnly), post.reason
    return post.answer([np.array(output) for output in outputs], None, frame)


def scrfd(anchors, points):
    """Outputs for the strides 8, 16 and 32: one face in cell (1, 2) of the first, and its weaker double."""
    scores, boxes, spots = [], [], []
    for stride in (8, 16, 32):
        cells = (32 // stride) * (64 // stride) * anchors
        scores.append(np.zeros((cells, 1), np.float32))
        boxes.append(np.zeros((cells, 4), np.float32))
        spots.append(np.zeros((cells, 10), np.float32))
    face = (1 * 8 + 2) * anchors
    scores[0][face : face + 2, 0] = 0.875, 0.75
    boxes[0][face : face + 2] = 0.5, 0.25, 1, 1.5
    if anchors == 1:
        boxes[0][face + 1, [0, 2]] = 1.5, 0
    spots[0][face] = np.tile([0.25, 0.5], 5)
    return [*scores, *boxes, *(spots if points else [])]


@pytest.mark.parametrize("kind", ["", "SCRFD"])
@pytest.mark.parametrize("points", [False, True])
@pytest.mark.parametrize("anchors", [1, 2])
def test_scrfd_finds_faces_and_their_points(kind, anchors, points):
    outputs = scrfd(anchors, points)
    known = [OutputEvidence("sigmoid")] * 3 + [OutputEvidence()] * (len(outputs) - 3)
    (found,) = answer(Card(model_type=kind), *outputs, evidence=known)["detections"]
    assert (found["class_id"], found["label"], found["probability"]) == (0, "face", 0.875)
    assert found["box"] == [120, 60, 240, 200]
    if points:
        assert found["keypoints"] == [{"point": [180, 120], "probability": 0.875}] * 5
    else:
        assert "keypoints" not in found


@pytest.mark.parametrize("kind", ["", "movenet"])
def test_movenet_names_each_point(kind):
    raw = np.zeros((1, 17, 3), np.float32)
    raw[0, 3] = 0.5, 0.25, 0.75  # y, x, score
    names = tuple(f"joint {place}" for place in range(17))
    card = Card(model_type=kind, labels=names, confidence_threshold=0.5)
    assert answer(card, raw)["keypoints"] == [
        {"class_id": 3, "label": "joint 3", "probability": 0.75, "point": [160, 160]}
    ]


@pytest.mark.parametrize("kind", ["", "BlazePose"])
@pytest.mark.parametrize("there", [True, False])
def test_blazepose_answers_where_a_person_is(kind, there):
    points = np.zeros((39, 5), np.float32)
    points[:, 3] = -9
    points[4] = 16, 8, 0, logit(0.75), 5
    points[38] = 16, 8, 0, 9, 9  # one of its own, which is no point of a person
    flag = np.array([0.9 if there else 0.1], np.float32)
    outputs = [points.reshape(-1), flag, np.zeros((16, 16, 1), np.float32), np.zeros(117, np.float32)]
    found = answer(Card(model_type=kind), *outputs)["keypoints"]
    assert len(found) == (33 if there else 0)
    if there:
        assert found[0] == {
            "class_id": 4,
            "label": "4",
            "probability": pytest.approx(0.75),
            "point": [160, 80],
        }


@pytest.mark.parametrize(
    "outputs",
    [
        [np.zeros((17, 3), np.float32)],  # points in space
        scrfd(1, points=False),  # numbers that no sigmoid makes scores of
    ],
    ids=["points in space", "boxes without sigmoids"],
)
def test_shapes_alone_are_not_enough(outputs):
    ports = [Port((f"output{place}",), output.dtype, output.shape) for place, output in enumerate(outputs)]
    assert isinstance(postprocessor(Card(), ports, SIZE), TensorsOnly)


LETTERS = ("a", "b", "c")


def steps(text, classes):
    """Probabilities [steps, classes]: `-` is the blank."""
    raw = np.full((len(text), classes), 0.01, np.float32)
    places = {"-": 0, "a": 1, "b": 2, "c": 3, " ": 4}
    for row, letter in zip(raw, text, strict=True):
        row[places[letter]] = 1 - 0.01 * (classes - 1)
    return raw


@pytest.mark.parametrize("kind", ["", "PaddleOCR-rec"])
@pytest.mark.parametrize(
    ("said", "text"), [("-aab-bb-", "abb"), ("aaaa", "a"), ("--", ""), ("ab-c", "abc"), ("a-a", "aa")]
)
def test_letters_seen_twice_in_a_row_are_one_and_blanks_part_them(kind, said, text):
    known = [OutputEvidence("softmax", -1)]
    for classes in (4, 5):  # with and without a space behind the alphabet
        found = answer(Card(model_type=kind, labels=LETTERS), steps(said, classes), evidence=known)
        assert found["text"] == text
        assert found["probability"] == pytest.approx(0.97 if text and classes == 4 else 0.96 * bool(text))


def test_the_space_and_logits_are_read():
    found = answer(
        Card(model_type="PaddleOCR-rec", labels=LETTERS),
        np.log(steps("a- -b", 5)),
        evidence=[OutputEvidence()],
    )
    assert found["text"] == "a b"


def test_text_without_labels_is_tensors_only():
    ports = [Port(("softmax",), np.dtype("f4"), (40, 5))]
    for kind in ("", "PaddleOCR-rec"):
        post = postprocessor(Card(model_type=kind), ports, SIZE, [OutputEvidence("softmax", -1)])
        assert isinstance(post, TensorsOnly)


def test_lines_of_text_are_turned_boxes_that_are_grown_back():
    size = Resizer(128, 64)
    chances = np.zeros((1, 64, 128), np.float32)
    line = cv2.boxPoints(((64, 32), (60, 10), 20))
    cv2.fillPoly(chances[0], [np.round(line).astype(np.int32)], (0.9,))
    chances[0, 2:8, 2:30] = 0.4  # too unsure
    chances[0, 60:62, 100:102] = 0.9  # too small
    found = answer(Card(model_type="PaddleOCR-det"), chances, size=size, frame=PictureSize(256, 128))
    (region,) = found["detections"]
    assert (region["label"], region["class_id"]) == ("text", 0)
    assert region["probability"] == pytest.approx(0.9, abs=0.1)
    (_, _), sides, _ = cv2.minAreaRect(np.array(region["polygon"], np.float32))
    away = 60 * 10 * 1.5 / (2 * (60 + 10)) * 2
    assert sorted(sides) == pytest.approx([2 * (10 + away), 2 * (60 + away)], rel=0.1)
    assert answer(Card(model_type="PaddleOCR-det"), chances * 0, size=size)["detections"] == []


@pytest.mark.parametrize("kind", ["", "YOLO-FastestV2"])
def test_yolo_fastest_has_three_anchors_that_share_their_classes(kind):
    levels = [np.zeros((2, 4, 15 + 3), np.float32), np.zeros((1, 2, 15 + 3), np.float32)]
    cell = levels[0][1, 2]
    cell[4:8] = 0.5, 0.25, 0.5, 0.25  # the second anchor, 37.88 x 51.48
    cell[12:15] = 0, 0.8, 0
    cell[15:18] = 0.1, 0.9, 0
    for outputs in (levels, levels[::-1]):
        (found,) = answer(Card(model_type=kind, labels=LETTERS), *outputs)["detections"]
        assert (found["label"], found["probability"]) == ("b", pytest.approx(0.72))
        middle, half = ((0.5 + 2) * 16, (0.0 + 1) * 16), (37.88 / 2, 51.48 / 4 / 2)
        wanted = [middle[0] - half[0], middle[1] - half[1], middle[0] + half[0], middle[1] + half[1]]
        assert found["box"] == pytest.approx([10 * value for value in wanted], abs=0.1)


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        ("SCRFD", [(64, 1), (64, 4)]),
        ("SCRFD", [(65, 1), (65, 4), (16, 1), (16, 4)]),
        ("MoveNet", [(1, 18, 3)]),
        ("BlazePose", [(195,)]),
        ("YOLO-FastestV2", [(2, 4, 18)]),
        ("YOLO-FastestV2", [(3, 4, 18), (1, 2, 18)]),
        ("PaddleOCR-rec", [(40, 9)]),
        ("PaddleOCR-det", [(2, 32, 64)]),
        ("UltraFace", [(42, 4), (42, 3)]),
        ("DETR", [(42, 5), (42, 3)]),
    ],
)
def test_outputs_of_other_models_are_refused(kind, shapes):
    ports = [Port((f"output{place}",), np.dtype("f4"), shape) for place, shape in enumerate(shapes)]
    post = postprocessor(Card(model_type=kind, labels=LETTERS), ports, SIZE)
    assert isinstance(post, TensorsOnly)
    assert kind.lower() in post.reason.lower()


def test_outputs_of_any_shapes_are_judged_or_refused_and_never_an_error():
    dice = np.random.default_rng(3)
    sides = [-1, 0, 1, 2, 3, 4, 5, 6, 7, 10, 17, 42, 195]
    functions = ["", "softmax", "sigmoid", "argmax", "normalised"]
    for _ in range(200):
        shapes = [tuple(dice.choice(sides, dice.integers(0, 5)).tolist()) for _ in range(dice.integers(1, 5))]
        ports = [
            Port((f"scores{place}",), np.dtype(dice.choice(["f4", "u1", "i8"])), shape)
            for place, shape in enumerate(shapes)
        ]
        known = [
            OutputEvidence(str(dice.choice(functions)), [None, -1, -3][dice.integers(3)], chosen=True)
            for _ in shapes
        ]
        for kind in ("", *MODEL_TYPES):
            for labels in ((), LETTERS):
                made = postprocessor(Card(model_type=kind, labels=labels), ports, SIZE, known)
                assert isinstance(made, TensorsOnly) or callable(made.answer), (kind, shapes)
