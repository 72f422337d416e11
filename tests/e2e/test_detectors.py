"""Boxes over HTTP, from real detectors for real photos."""

from __future__ import annotations

import io
from collections import Counter

import cv2
import numpy as np
import openvino as ov
import pytest
from PIL import Image

from cpuserve.cli import main
from cpuserve.models.card import Card
from cpuserve.serving.openvino_core import openvino_core
from tests.servers import serving

pytestmark = pytest.mark.numeric

FLAGS = {
    "FastestDet.onnx": ("--model_type", "FastestDet", "--scale_values", "255"),
    "nanodet_m_416.onnx": (
        *("--model_type", "NanoDet", "--mean_values", "103.53,116.28,123.675"),
        *("--scale_values", "57.375,57.12,58.395", "--set", "confidence_threshold=0.4"),
    ),
    "yolox_nano_416.onnx": (
        *("--model_type", "YOLOX", "--resize_type", "fit_to_window", "--pad_value", "114"),
        *("--set", "confidence_threshold=0.4", "--set", "iou_threshold=0.5", "--set", "agnostic_nms=False"),
    ),
}


@pytest.fixture(scope="module")
def server(data_dir, tmp_path_factory):
    root = tmp_path_factory.mktemp("detectors")
    models = data_dir / "models"
    named = ("--labels", str(models / "coco_labels_80.txt"), "--no-parity", "--quiet")
    place = ("--model-repository", str(root))
    for file, flags in FLAGS.items():
        name = file.removesuffix(".onnx")
        with pytest.raises(SystemExit, match="0"):
            main(["convert", str(models / file), "--name", name, *flags, *named, *place])
    with pytest.raises(SystemExit, match="0"):
        model = openvino_core().read_model(models / "resnet8_cifar10.tflite")
        Card(model_type="CenterNet").write(model)  # the source's word; a user's is refused
        file = tmp_path_factory.mktemp("odd") / "odd.xml"
        ov.save_model(model, file)
        main(["convert", str(file), "--name", "odd", "--no-parity", "--quiet", *place])
    log = tmp_path_factory.mktemp("log") / "log"
    options = ("--workers", "1", "--decode", "exact", "--precision", "f32", "--max-batch", "1")
    with serving(log, *place, *options) as server:
        yield server
        assert "Traceback" not in server.text()


def path(file):
    return f"/predictions/{file.removesuffix('.onnx')}"


@pytest.mark.parametrize("file", FLAGS)
def test_boxes_are_as_expected(server, data_dir, expected, file):
    answers = expected["detect"][file]
    assert len(answers) == 9
    for photo, wanted in answers.items():
        data = (data_dir / "images" / photo).read_bytes()
        height, width = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2]
        found = server.post(path(file), data).json()["detections"]
        assert Counter(entry["label"] for entry in found) == wanted["counts"], photo
        scores = [entry["probability"] for entry in found]
        assert scores == sorted(scores, reverse=True)
        # for YOLOX the size in the letterbox was rounded down, not to the nearest pixel of the input
        letterbox = file.startswith("yolox")
        score_off, off = (0.0151, 1 + max(width, height) / 416) if letterbox else (0.0051, 1)
        for label, score, box in wanted["boxes"]:
            # the expected boxes are whole pixels, and not cut off at the picture's edges
            inside = np.clip(box, 0, [width, height, width, height])
            distances = [
                np.abs(np.subtract(entry["box"], inside)).max()
                for entry in found
                if entry["label"] == label and entry["probability"] == pytest.approx(score, abs=score_off)
            ]
            assert min(distances, default=np.inf) <= off, (photo, label, score, box)


def test_topk_keeps_the_best(server, data_dir):
    photo = (data_dir / "images" / "road1_progressive.jpg").read_bytes()
    whole = server.post("/predictions/yolox_nano_416", photo).json()["detections"]
    assert server.post("/predictions/yolox_nano_416?topk=2", photo).json()["detections"] == whole[:2]
    assert server.post("/predictions/yolox_nano_416?topk=0", photo).status == 400


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [(6, Image.Transpose.ROTATE_90), (3, Image.Transpose.ROTATE_180), (2, Image.Transpose.FLIP_LEFT_RIGHT)],
)
def test_boxes_are_those_of_the_upright_picture(server, data_dir, orientation, turn):
    photo = data_dir / "images" / "coco_bus.jpg"
    with Image.open(photo) as picture:
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = io.BytesIO()
        picture.transpose(turn).save(stored, "JPEG", quality=95, exif=exif)
    found = server.post("/predictions/yolox_nano_416", stored.getvalue()).json()["detections"]
    (bus,) = (entry for entry in found if entry["label"] == "bus")
    assert bus["box"] == pytest.approx([49, 80, 602, 423], abs=6)


def test_an_overlay_shows_the_boxes(server, data_dir):
    data = (data_dir / "images" / "zebra.jpeg").read_bytes()
    plain = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    got = server.post("/predictions/yolox_nano_416", data, Accept="image/png")
    assert (got.status, got.headers["Content-Type"]) == (200, "image/png")
    assert "infer;dur=" in got.headers["Server-Timing"]
    drawn = cv2.imdecode(np.frombuffer(got.body, np.uint8), cv2.IMREAD_UNCHANGED)
    assert drawn.shape == plain.shape
    (zebra,) = server.post("/predictions/yolox_nano_416", data).json()["detections"]
    left, top, right, bottom = (round(value) for value in zebra["box"])
    changed = (drawn != plain).any(axis=2)
    frame = np.zeros_like(changed)
    frame[top - 2 : bottom + 2, left - 2 : right + 2] = True
    frame[top + 3 : bottom - 3, left + 3 : right - 3] = False
    for edge in (changed[top, left:right], changed[bottom - 1, left:right]):
        assert edge.mean() > 0.99  # a pixel may have had the colour already
    for edge in (changed[top:bottom, left], changed[top:bottom, right - 1]):
        assert edge.mean() > 0.99
    name = np.zeros_like(changed)
    name[top - 20 : top + 2, left:right] = True
    assert changed[name].sum() > 100  # its name stands above
    assert not changed[~(frame | name)].any()
    refused = server.post("/predictions/yolox_nano_416?render=mask", data)
    assert refused.status == 400
    assert "not a segmentation" in refused.json()["error"]
    assert server.post("/predictions/yolox_nano_416", data, Accept="text/html").status == 406


def test_a_model_type_nobody_knows_is_named_and_its_tensors_are_served(server, data_dir):
    data = (data_dir / "images" / "zebra.jpeg").read_bytes()
    refused = server.post("/predictions/odd", data)
    assert refused.status == 400
    assert "model_type 'CenterNet' is not known; " in refused.json()["error"]
    assert "ask for its tensors at /v2/models/odd/infer" in refused.json()["error"]
    assert "model odd version 1 answers tensors only: model_type 'CenterNet'" in server.text()
    headers = {"Inference-Header-Content-Length": "0"}
    assert server.request("POST", "/v2/models/odd/infer", data, headers).status == 200
