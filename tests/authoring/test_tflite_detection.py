"""The decoding of boxes at the end of TensorFlow Lite detectors gives what TensorFlow Lite gives."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from cpuserve.authoring.convert import ConvertOrder, convert
from cpuserve.authoring.cut import CutOrder, CutSource, cut
from cpuserve.authoring.source import read_source
from cpuserve.errors import ModelLoadError
from cpuserve.models.card import Card
from cpuserve.models.cut_manifest import CutPart
from cpuserve.models.repository import Repository
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.settings import Settings
from tests.tflite_files import TfliteFile

ANCHORS, CLASSES, OPERATION = 24, 3, "TFLite_Detection_PostProcess"
BOXES, SCORES = (0.05, 128), (1 / 256, 0)  # scale and zero point
ANCHOR = (1 / 255, 0)


def detector(file: Path, *, quantised: bool = False, background: int = 1, **options: Any) -> Path:
    """Boxes and scores that pass an addition, then the decoding."""
    dice, made = np.random.default_rng(3), TfliteFile()
    anchors = np.concatenate([dice.uniform(0.2, 0.8, (ANCHORS, 2)), dice.uniform(0.2, 0.5, (ANCHORS, 2))], 1)
    ends = {"boxes": (4, BOXES), "scores": (CLASSES + background, SCORES)}
    inputs, raw = [], []
    for name, (width, how) in ends.items():
        shape, dtype = (1, ANCHORS, width), "uint8" if quantised else "float32"
        said = how if quantised else (0.0, 0)
        inputs.append(made.tensor(name, shape, dtype, *said))
        zero = made.constant(f"no_{name}", np.full(shape, said[1], dtype), *said)
        raw.append(made.tensor(f"raw_{name}", shape, dtype, *said))
        made.add(inputs[-1], zero, raw[-1])
    if quantised:
        raw.append(made.constant("anchors", np.round(anchors * 255).astype(np.uint8), *ANCHOR))
    else:
        raw.append(made.constant("anchors", anchors.astype(np.float32)))
    most = options.setdefault("max_detections", 6)
    rows = most * options.setdefault("max_classes_per_detection", 1)
    scales: dict[str, Any] = {"y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0}
    limits: dict[str, Any] = {"nms_score_threshold": 0.4, "nms_iou_threshold": 0.5, "num_classes": CLASSES}
    names = [OPERATION, *(f"{OPERATION}:{place}" for place in (1, 2, 3))]
    shapes = ((1, rows, 4), (1, rows), (1, rows), (1,))
    outputs = [made.tensor(name, shape) for name, shape in zip(names, shapes, strict=True)]
    made.custom(OPERATION, raw, outputs, **scales, **(limits | options))
    return made.save(file, inputs, outputs)


def answers(file: Path, seed: int) -> tuple[list[Any], list[Any]]:
    """The outputs of OpenVINO and of TensorFlow Lite for the same random boxes."""
    theirs, dice = Interpreter(str(file)), np.random.default_rng(seed)
    theirs.allocate_tensors()
    rows = {}
    for port in theirs.get_input_details():
        row = dice.uniform(-1 if port["name"] == "boxes" else 0, 1, port["shape"])
        if port["dtype"] == np.uint8:
            row = dice.integers(0, 255, port["shape"], endpoint=True)
        rows[port["name"]] = row.astype(port["dtype"])
        theirs.set_tensor(port["index"], rows[port["name"]])
    theirs.invoke()
    model = read_source(str(file)).model
    assert [port.get_any_name() for port in model.inputs] == ["boxes", "scores"]
    compiled = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(rows)
    return [found[port] for port in compiled.outputs], [
        theirs.get_tensor(port["index"]) for port in theirs.get_output_details()
    ]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"background": 0},
        {"max_detections": 40},
        {"max_classes_per_detection": 2},
        {"use_regular_nms": True, "detections_per_class": 4},
        {"use_regular_nms": True, "detections_per_class": 2, "max_detections": 3},
        {"nms_score_threshold": 0.995},
    ],
    ids=str,
)
@pytest.mark.parametrize("quantised", [False, True], ids=["float", "uint8"])
def test_boxes_are_those_of_tensorflow_lite(tmp_path, options, quantised):
    file = detector(tmp_path / "ssd.tflite", quantised=quantised, **options)
    seen = 0
    for seed in range(5):
        ours, theirs = answers(file, seed)
        assert [output.shape for output in ours] == [output.shape for output in theirs]
        count = int(theirs[3][0])
        assert int(ours[3][0]) == count
        rows = count * options.get("max_classes_per_detection", 1)
        np.testing.assert_allclose(ours[2][0, :rows], theirs[2][0, :rows], atol=1e-5)
        # of equal scores, which integers have often, either may come first
        order = [
            np.lexsort((*boxes[0][:rows].T, -np.round(scores[0][:rows], 4)))
            for boxes, _, scores, _ in (ours, theirs)
        ]
        np.testing.assert_allclose(ours[0][0, :rows][order[0]], theirs[0][0, :rows][order[1]], atol=1e-4)
        if not quantised:
            assert ours[1][0, :rows].tolist() == theirs[1][0, :rows].tolist()
        assert not ours[0][0, rows:].any()
        seen += count
    assert seen > 0 or options.get("nms_score_threshold")


def test_such_a_detector_is_converted_and_compared(tmp_path):
    source = read_source(str(detector(tmp_path / "ssd.tflite")))
    file, report = convert(
        source, ConvertOrder("ssd", Card()), Repository(tmp_path / "models"), Settings(), lambda _: None
    )
    assert file.xml.is_file()
    assert report["parity"]["original"].startswith("ai_edge_litert ")
    assert report["outputs"][0] == f"{OPERATION} f32[1,6,4]"
    assert report["parity"]["outputs"][3]["max_abs_diff"] == 0


def test_it_is_cut_in_front_of_the_decoding_which_becomes_the_tail(tmp_path):
    repository = Repository(tmp_path / "models")
    source = CutSource.find(str(detector(tmp_path / "ssd.tflite")), repository)
    part = CutPart.parse("ir")
    order = CutOrder("ssd", (), ("raw_boxes", "raw_scores"), part, part)
    report = cut(source, order, repository, Settings(), threads=1)
    assert report.parts.tail is not None
    assert report.parts.report["parity"]["outputs"][OPERATION]["max_abs_diff"] == 0


def test_the_graph_ends_in_front_of_it_where_that_is_asked(tmp_path):
    model = read_source(str(detector(tmp_path / "ssd.tflite")), outputs=["raw_boxes", "raw_scores"]).model
    assert [str(port.partial_shape) for port in model.outputs] == ["[1,24,4]", "[1,24,4]"]
    assert not [node for node in model.get_ordered_ops() if node.get_type_name() == "NonMaxSuppression"]


def test_without_the_extra_the_refusal_names_it_and_the_tensors_in_front(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    file = str(detector(tmp_path / "ssd.tflite"))
    with pytest.raises(ModelLoadError, match=r"pip install .cpuserve\[tflite\].*--output raw_boxes"):
        read_source(file)
    assert len(read_source(file, outputs=["raw_boxes", "raw_scores"]).model.outputs) == 2
