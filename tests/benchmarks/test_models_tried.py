"""The trial of models sees what is wrong, and the page shows the result that is kept."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.fixtures.answer_checks import answer_faults
from benchmarks.fixtures.known_models import KnownModel, known
from benchmarks.fixtures.model_wheels import WHEELS, light_models
from benchmarks.fixtures.served_trials import trial_servers
from benchmarks.models_tried import lines, try_model
from tests.conftest import ROOT

RESULT = ROOT / "docs" / "results" / "models-tried.json"
CLASSIFIER = KnownModel("*", "classes")


def small_classifier(file: Path) -> Path:
    """The softmax of the means of a picture's channels."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["picture"], ["means"]),
        helper.make_node("Reshape", ["means", "flat"], ["rows"]),
        helper.make_node("Softmax", ["rows"], ["likely"], axis=1),
    ]
    ends = [
        helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["N", 3, 8, 8]),
        helper.make_tensor_value_info("likely", TensorProto.FLOAT, ["N", 3]),
    ]
    flat = numpy_helper.from_array(np.array([-1, 3], np.int64), "flat")
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], [flat])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(made, file)
    return file


@pytest.mark.timeout(300)
def test_a_model_is_converted_served_asked_and_compared(data_dir, tmp_path):
    file, photo = small_classifier(tmp_path / "small.onnx"), data_dir / "images" / "people2.jpeg"
    (tmp_path / "half.onnx").write_bytes(file.read_bytes()[:90])
    (tmp_path / "served").mkdir()
    with trial_servers(tmp_path / "served") as servers:
        trial = try_model(servers, "here", file, ("--scale_values", "255"), photo, CLASSIFIER)
        wrong = try_model(servers, "here", file, (), photo, KnownModel("*", "boxes"))
        refused = try_model(servers, "here", tmp_path / "half.onnx", (), photo, CLASSIFIER)
    assert (trial.refused, trial.unserved, trial.faults) == ("", "", [])
    assert trial.framework.startswith("onnxruntime ")
    assert trial.answer.startswith("3 predictions, first ")
    assert len(trial.differences) == 4
    assert max(trial.differences["random, f32"], trial.differences["photo, f32"]) < 1e-4
    assert "answers 'predictions', but gives boxes" in wrong.faults
    assert "ends too early" in refused.refused
    assert (refused.faults, refused.differences) == ([], {})
    table = lines([vars(trial), vars(wrong), vars(refused)])
    assert table[-1] == "3 rows, 1 not converted, 1 with a fault (in bold)."


@pytest.mark.parametrize(
    ("answer", "kind", "output", "fault"),
    [
        ({"predictions": [{"class_id": 1, "probability": 0.9}]}, "classes", [0.1, 0.9], None),
        (
            {"predictions": [{"class_id": 1, "probability": 0.88}]},
            "classes",
            [-1.0, 1.0],
            None,
        ),  # its softmax
        ({"predictions": [{"class_id": 0, "probability": 0.1}]}, "classes", [0.1, 0.9], "best class 0"),
        ({"predictions": [{"class_id": 1, "probability": 0.5}]}, "classes", [0.1, 0.9], "probability 0.5"),
        ({"predictions": [{"class_id": 1, "probability": 7}]}, "classes", [], "calls 7.0 a probability"),
        ({"detections": [{"probability": 1.5}]}, "boxes", [], "calls 1.5 a probability"),
        ({"classes": []}, "boxes", [], "answers 'classes', but gives boxes"),
        ({"classes": [{"class_id": 1, "area": 0.5}]}, "classes of pixels", [[[0, 1], [0, 1]]], None),
        (
            {"classes": [{"class_id": 1, "area": 0.5}]},
            "classes of pixels",
            [[[0.1, 0.9], [0.2, 0.7]]],
            None,
        ),  # a mask
        (
            {"classes": [{"class_id": 0, "area": 1.0}]},
            "classes of pixels",
            [[[0, 1], [0, 1]]],
            "area 1.0 of class 0",
        ),
    ],
)
def test_answers_are_held_against_the_outputs(answer, kind, output, fault):
    outputs = [np.array(output)] if output else []
    found = list(
        answer_faults({"model": "m", "version": "1", **answer}, KnownModel("*", kind), outputs, 0.03)
    )
    assert [words.startswith(fault) for words in found] == [True] if fault else not found


def test_what_is_known_of_models():
    assert known("data", "yolox_nano_416.onnx").kind == "boxes"
    assert known("mediapipe==0.10.14", "hand_recrop.tflite").kind == "numbers"
    assert known("nowhere", "new.onnx").kind == "numbers"
    assert all(len(wheel.sha256) == hashlib.sha256().digest_size * 2 for wheel in WHEELS)
    assert len(next(iter(light_models().values()))) > 5


def test_the_page_shows_the_result():
    kept = json.loads(RESULT.read_text())
    page = (ROOT / "docs" / "models-tried.md").read_text()
    assert page.partition("<!-- models -->\n")[2].partition("\n<!-- end -->")[0].splitlines() == lines(
        kept["models"]
    )
    sources = {row["source"].partition("=")[0] for row in kept["models"]}
    assert sources >= {"data", "cases", "onnx", *(wheel.name for wheel in WHEELS)}
