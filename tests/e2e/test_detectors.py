"""Boxes over HTTP, from real detectors for real photos."""

from __future__ import annotations

import io
from collections import Counter

import cv2
import numpy as np
import openvino as ov
import pytest
from PIL import Image

from cpuserve.models.card import Card
from tests.servers import serving

CARDS = {
    "FastestDet.onnx": Card(model_type="FastestDet", scale_values=(255.0,), confidence_threshold=0.5),
    "nanodet_m_416.onnx": Card(
        model_type="NanoDet",
        mean_values=(103.53, 116.28, 123.675),
        scale_values=(57.375, 57.12, 58.395),
        confidence_threshold=0.4,
    ),
    "yolox_nano_416.onnx": Card(
        model_type="YOLOX",
        resize_type="fit_to_window",
        pad_value=114,
        confidence_threshold=0.4,
        iou_threshold=0.5,
        agnostic_nms=False,
    ),
}


@pytest.fixture(scope="module")
def server(data_dir, tmp_path_factory):
    root = tmp_path_factory.mktemp("detectors")
    labels = (data_dir / "models" / "coco_labels_80.txt").read_text().splitlines()
    for file, card in CARDS.items():
        model = ov.Core().read_model(data_dir / "models" / file)
        Card(**{**vars(card), "labels": tuple(labels)}).write(model)
        folder = root / file.removesuffix(".onnx") / "1"
        folder.mkdir(parents=True)
        ov.save_model(model, folder / "model.xml", compress_to_fp16=False)
    (root / "odd" / "1").mkdir(parents=True)
    Card(model_type="CenterNet").write(model)
    ov.save_model(model, root / "odd" / "1" / "model.xml")
    log = tmp_path_factory.mktemp("log") / "log"
    options = ("--workers", "1", "--decode", "exact", "--precision", "f32", "--max-batch", "1")
    with serving(log, "--model-repository", str(root), *options) as server:
        yield server
        assert "Traceback" not in server.text()


def path(file):
    return f"/predictions/{file.removesuffix('.onnx')}"


@pytest.mark.parametrize("file", CARDS)
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


def test_a_model_type_nobody_knows_is_named_and_its_tensors_are_served(server, data_dir):
    data = (data_dir / "images" / "zebra.jpeg").read_bytes()
    refused = server.post("/predictions/odd", data)
    assert refused.status == 400
    assert "model_type 'CenterNet' is none of Classification, " in refused.json()["error"]
    assert "model odd version 1 answers tensors only: model_type 'CenterNet'" in server.text()
    headers = {"Inference-Header-Content-Length": "0"}
    assert server.request("POST", "/v2/models/odd/infer", data, headers).status == 200
