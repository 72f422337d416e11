"""Model API's wrappers behind our answers: by hand, and against Model API as it runs by itself."""

from __future__ import annotations

import re
import subprocess
import sys

import cv2
import numpy as np
import openvino as ov
import pytest
from model_api.adapters import OpenvinoAdapter
from openvino import opset13 as ops

from cpuserve.models.card import Card
from cpuserve.models.repository import ModelFile
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.picture_input import PictureSize
from cpuserve.serving.postprocess import TensorsOnly, modelapi, postprocessor
from cpuserve.serving.preprocess import RESIZE_TYPES, Resizer
from cpuserve.serving.request import Request
from cpuserve.settings import Settings
from tests.serving.postprocess.rows import logit, ports, row

SIZE = 64
FRAME = PictureSize(128, 64)  # in an input of 64 x 64: standard makes it twice as narrow


def entries(card, *outputs, names=None, model=None, resizer=None, frame=FRAME):
    resizer = resizer or Resizer(SIZE, SIZE, card.resize_type)
    post = postprocessor(card, ports(*outputs, names=names), resizer, model=model)
    assert not isinstance(post, TensorsOnly), post.reason
    ((kind, found),) = post.answer(row(*outputs), None, frame).items()
    assert kind in ("detections", "keypoints")
    return found


def ssd(*rows):
    """DetectionOutput's [1, 1, N, 7]: image, class, score, corners as shares; the rest is zeros."""
    found = np.zeros((1, 1, 5, 7), np.float32)
    found[0, 0, : len(rows)] = rows
    if len(rows) < 5:
        found[0, 0, len(rows), 0] = -1
    return found


def yolov8(*boxes, classes=2):
    """[1, 4 + classes, 8]: middle and size in pixels of the input, a score a class."""
    found = np.zeros((1, 4 + classes, 8), np.float32)
    for place, (box, label, score) in enumerate(boxes):
        found[0, :4, place] = box
        found[0, 4 + label, place] = score
    return found


def simcc(*points, size=SIZE):
    x, y = np.zeros((2, 1, len(points), 2 * size), np.float32)
    for place, (left, top, score) in enumerate(points):
        x[0, place, round(left * 2)] = y[0, place, round(top * 2)] = score
    return x, y


def test_ssd_by_hand():
    outputs = ssd((0, 1, 0.75, 0.25, 0.5, 0.5, 1), (0, 0, 0.875, 0, 0, 0.5, 0.25), (0, 0, 0.25, 0, 0, 1, 1))
    assert entries(Card(model_type="ssd", labels=("cat", "dog")), outputs) == [
        {"class_id": 0, "label": "cat", "probability": 0.875, "box": [0, 0, 64, 16]},
        {"class_id": 1, "label": "dog", "probability": 0.75, "box": [32, 32, 64, 64]},
    ]
    assert len(entries(Card(model_type="SSD", confidence_threshold=0.125), outputs)) == 3


def test_ssd_with_boxes_and_labels_apart():
    boxes = np.array([[[16, 32, 32, 64, 0.75], [0, 0, 32, 16, 0.25]]], np.float32)
    labels = np.array([[1, 0]], np.int64)
    (found,) = entries(Card(model_type="SSD"), boxes, labels, names=["boxes", "labels"])
    assert found == {"class_id": 1, "label": "1", "probability": 0.75, "box": [32, 32, 64, 64]}


@pytest.mark.parametrize("kind", ["YOLOv5", "yolov8", "YOLO11", "YOLO"])
def test_yolov8_and_its_likes_by_hand(kind):
    """The letterbox puts the picture into rows 16 to 48; of two boxes that overlap one stays."""
    outputs = yolov8(([32, 32, 16, 8], 1, 0.75), ([33, 32, 16, 8], 1, 0.5), ([8, 20, 16, 16], 0, 0.5))
    card = Card(model_type=kind, labels=("cat", "dog"), resize_type="fit_to_window_letterbox")
    assert entries(card, outputs) == [
        {"class_id": 1, "label": "dog", "probability": 0.75, "box": [48, 24, 80, 40]},
        {"class_id": 0, "label": "cat", "probability": 0.5, "box": [0, 0, 32, 24]},
    ]


def test_a_crop_is_undone_which_model_api_does_not_do():
    card = Card(model_type="YOLOv8", resize_type="crop")
    (found,) = entries(card, yolov8(([32, 32, 16, 8], 1, 0.75)))
    assert found["box"] == [56, 28, 72, 36]


def test_yolox_by_hand():
    cells = [(SIZE // stride) ** 2 for stride in (8, 16, 32)]
    raw = np.zeros((1, sum(cells), 5 + 2), np.float32)
    at = cells[0] + 1 * 4 + 2  # stride 16, row 1, column 2
    raw[0, at] = 0.5, 0.25, np.log(2), np.log(0.5), 0.8, 0.2, 0.9375
    middle, size = ((2 + 0.5) * 16, (1 + 0.25) * 16), (32, 8)
    card = Card(model_type="YOLOX", resize_type="fit_to_window", pad_value=114)
    (found,) = entries(card, raw)
    assert (found["class_id"], found["probability"]) == (1, 0.75)
    assert found["box"] == [
        2 * (middle[0] - size[0] / 2),
        2 * (middle[1] - size[1] / 2),
        2 * (middle[0] + size[0] / 2),
        2 * (middle[1] + size[1] / 2),
    ]


def test_yolov4_by_hand():
    """Three anchors a cell; the second output's first anchor is 36 x 75."""
    outputs = [np.full((1, 3 * 7, side, side), -20, np.float32) for side in (8, 4, 2)]
    outputs[1][0, :7, 2, 1] = 0, 0, 0, np.log(0.2), logit(0.9), logit(0.1), logit(0.9)
    card = Card(model_type="YOLOV4")
    (found,) = entries(card, *outputs)
    assert found["class_id"] == 1
    assert found["probability"] == pytest.approx(0.81, abs=1e-5)
    x, y = 1.5 / 4 * 128, 2.5 / 4 * 64
    assert found["box"] == pytest.approx([max(0, x - 36), y - 7.5, x + 36, y + 7.5], abs=0.1)


def test_what_the_graph_and_its_metadata_say_of_a_yolo_counts():
    """RegionYolo carries anchors and mask; `confidence_threshold` is in the metadata only."""
    raw = np.full((1, 2 * 7, 2, 2), -20, np.float32)
    raw[0, :7, 1, 0] = 0, 0, np.log(0.5), 0, logit(0.5), logit(0.5), logit(0.1)
    entry = ops.parameter(raw.shape, np.float32, name="raw")
    region = ops.region_yolo(entry, 4, 2, 3, False, [1, 2], 1, 3, [10.0, 14, 20, 10, 40, 40])
    region.output(0).set_names({"region"})
    model = ov.Model([ops.result(region)], [entry])
    outputs = openvino_core().compile_model(model, "CPU")(raw)[0]
    card = Card(model_type="YOLO", labels=("cat", "dog"))
    assert entries(card, outputs, names=["region"], model=model) == []
    model.set_rt_info("0.2", ["model_info", "confidence_threshold"])
    (found,) = entries(card, outputs, names=["region"], model=model)
    assert found["probability"] == pytest.approx(0.25, abs=1e-4)
    x, y = 0.5 / 2 * 128, 1.5 / 2 * 64  # the anchor is 20 x 10, in pixels of the input
    assert found["box"] == pytest.approx([x - 10, y - 5, x + 10, y + 5], abs=0.1)


def test_keypoints_by_hand():
    points = simcc((10, 20.5, 0.75), (63, 1, 0.25), (5, 5, 0))
    entry = ops.parameter((1,), np.float32)
    model = ov.Model([ops.result(entry)], [entry])
    model.set_rt_info("False", ["model_info", "apply_softmax"])
    card = Card(model_type="keypoint_detection", labels=("nose", "eye", "ear"))
    assert entries(card, *points, model=model) == [
        {"class_id": 0, "label": "nose", "probability": 0.75, "point": [20, 20.5]},
        {"class_id": 1, "label": "eye", "probability": 0.25, "point": [126, 1]},
    ]
    strict = Card(model_type="keypoint_detection", confidence_threshold=0.5)
    assert len(entries(strict, *points, model=model)) == 1


def test_one_model_does_not_change_anothers_defaults():
    """Model API's classes share the objects that hold their defaults."""
    outputs = ssd((0, 0, 0.4, 0, 0, 0.5, 0.5), (0, 0, 0.75, 0, 0, 0.5, 0.5), (0, 0, 0.625, 0, 0, 0.5, 0.5))
    card = Card(model_type="SSD")
    before = postprocessor(card, ports(outputs), Resizer(SIZE, SIZE))
    assert not isinstance(before, TensorsOnly)
    alone = before.answer(row(outputs), None, FRAME)
    assert len(alone["detections"]) == 2
    entries(Card(model_type="YOLOv8"), yolov8())  # would set 0.25 and thin boxes out
    assert before.answer(row(outputs), None, FRAME) == alone
    assert entries(card, outputs) == alone["detections"]


@pytest.mark.parametrize(
    ("card", "outputs", "words"),
    [
        (Card(model_type="SSD"), [np.zeros((1, 3, 9), np.float32)], "SSD has one output"),
        (Card(model_type="YOLOX"), [np.zeros((1, 10, 7), np.float32)], "YOLOX does not take .* 10, 7"),
        (Card(model_type="YOLOv8", labels=("a", "b", "c")), [yolov8()], "7 numbers a box for 3 labels"),
        (Card(model_type="keypoint_detection"), simcc((1, 1, 1), size=32), r"\[N, K, 128\] .* 64\]"),
    ],
)
def test_outputs_of_another_kind_are_named(card, outputs, words):
    post = postprocessor(card, ports(*outputs), Resizer(SIZE, SIZE))
    assert isinstance(post, TensorsOnly)
    assert re.search(words, post.reason)


HEADS = {
    "SSD": [ssd((0, 1, 0.75, 0.25, 0.5, 0.5, 1), (0, 0, 0.875, 0.1, 0.3, 0.5, 0.6))],
    "YOLOv8": [yolov8(([32, 32, 16, 8], 1, 0.75), ([33, 32, 16, 8], 1, 0.5), ([11, 27, 16, 16], 0, 0.5))],
    "keypoint_detection": list(simcc((10, 20.5, 0.75), (60, 28, 0.5))),
}
STEM = ("Classification", "Segmentation")


def graph(kind, card):
    """A model of that kind: constant outputs that touch the picture, or a linear map of its colours."""
    entry = ops.parameter((1, SIZE, SIZE, 3), np.float32, name="image")
    entry.output(0).set_names({"image"})
    if kind in HEADS:
        nothing = ops.multiply(ops.reduce_max(entry, np.array([0, 1, 2, 3])), np.float32(0))
        found = [ops.add(ops.constant(output), nothing) for output in HEADS[kind]]
    else:
        rng = np.random.default_rng(7)
        mixed = ops.matmul(entry, ops.constant(rng.normal(size=(3, 4)).astype(np.float32)), False, False)
        if kind == "Classification":
            found = [ops.softmax(ops.reduce_mean(ops.divide(mixed, np.float32(64)), np.array([1, 2])), 1)]
        else:
            found = [ops.transpose(mixed, np.array([0, 3, 1, 2]))]
    for place, node in enumerate(found):
        node.output(0).set_names({f"out{place}"})
    model = ov.Model([ops.result(node) for node in found], [entry])
    card.write(model)
    return model


# Constant outputs do not depend on the resize, which Model API does in the graph and we before it.
CASES = [
    *((kind, resize) for kind in HEADS for resize in RESIZE_TYPES if resize != "crop"),
    *((kind, "standard") for kind in STEM),
]


@pytest.mark.parametrize(("kind", "resize_type"), CASES)
def test_answers_are_those_of_model_api(kind, resize_type, tmp_path):
    """The same file and photo, through our pipeline and through Model API's own."""
    card = Card(
        model_type=kind, labels=("a", "b", "c", "d")[: 2 if kind in HEADS else 4], resize_type=resize_type
    )
    file = tmp_path / "model.xml"
    ov.save_model(graph(kind, card), file)
    size = (SIZE, SIZE) if kind in STEM else (160, 80)
    colours = np.random.default_rng(1).integers(0, 255, (5, 5, 3), np.uint8)
    photo = cv2.resize(colours, size, interpolation=cv2.INTER_CUBIC)

    adapter = OpenvinoAdapter(openvino_core(), str(file), plugin_config={"INFERENCE_PRECISION_HINT": "f32"})
    theirs = modelapi.Model.create_model(adapter)(photo)
    ours = load_pipeline(openvino_core(), ModelFile("m", 1, file), Settings(precision="f32"), 1)
    picture = cv2.imencode(".png", photo)[1].tobytes()
    answer = ours.predict(picture, Request())

    if kind == "Classification":
        first, best = answer["predictions"][0], theirs.top_labels[0]
        assert (first["class_id"], first["label"]) == (best.id, best.name)
        assert first["probability"] == pytest.approx(best.confidence, abs=1e-5)
    elif kind == "Segmentation":
        areas = np.bincount(theirs.resultImage.reshape(-1)) / theirs.resultImage.size
        found = {entry["class_id"]: entry["area"] for entry in answer["classes"]}
        assert found == pytest.approx({index: area for index, area in enumerate(areas) if area}, abs=1e-3)
        assert len(found) > 1
    elif kind == "keypoint_detection":
        found = {entry["class_id"]: entry["point"] for entry in answer["keypoints"]}
        assert [found[0], found[1]] == [pytest.approx(point, abs=0.6) for point in theirs.keypoints.tolist()]
    else:
        best = np.argsort(-theirs.scores)
        assert [entry["label"] for entry in answer["detections"]] == [theirs.label_names[i] for i in best]
        for entry, index in zip(answer["detections"], best, strict=True):
            assert entry["probability"] == pytest.approx(float(theirs.scores[index]), abs=1e-5)
            assert entry["box"] == pytest.approx(theirs.bboxes[index].tolist(), abs=1)


def python(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )


def test_it_is_loaded_when_needed_and_brings_neither_frameworks_nor_threads():
    done = python(
        "import os, sys, cv2, cpuserve.serving.loader\n"
        "assert not any(name.startswith('model_api') for name in sys.modules)\n"
        "threads, environment = len(os.listdir('/proc/self/task')), dict(os.environ)\n"
        "from cpuserve.serving.postprocess import modelapi\n"
        "brought = {'torch', 'onnxruntime', 'onnx', 'tensorflow'} & set(sys.modules)\n"
        "assert not brought, brought\n"
        "assert len(os.listdir('/proc/self/task')) == threads\n"
        "assert (cv2.getNumThreads(), dict(os.environ)) == (1, environment)\n"
        "import onnx\n"
    )
    assert done.returncode == 0, done.stderr


def test_without_the_extra_the_reason_names_it():
    done = python(
        "import sys; sys.modules['model_api'] = None\n"
        "import numpy as np\n"
        "from cpuserve.models.card import Card\n"
        "from cpuserve.serving.engine import Port\n"
        "from cpuserve.serving.postprocess import postprocessor\n"
        "from cpuserve.serving.preprocess import Resizer\n"
        "ports = [Port(('out',), np.dtype('f4'), (5, 400))]\n"
        "print(postprocessor(Card(model_type='YOLOv8'), ports, Resizer(8, 8)).reason)\n"
    )
    assert "pip install 'cpuserve[vision]'" in done.stdout, done.stderr
