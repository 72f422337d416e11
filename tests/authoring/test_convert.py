"""The card is merged once, the written IR is compared with the original, and refusals publish nothing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import openvino as ov
import pytest
from onnx import TensorProto, helper, numpy_helper
from openvino import opset13 as ops

from cpuserve.authoring.convert import ConvertOrder, convert
from cpuserve.authoring.source import SourceModel, input_shapes, read_source
from cpuserve.errors import UsageError
from cpuserve.models.card import OWN, Card
from cpuserve.models.repository import Repository
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.settings import Settings
from tests.authoring.test_served_as_converted import write_onnx


def source(folder: Path, shape: Any = (1, 8, 8, 3), card: Card | None = None) -> SourceModel:
    """An IR that takes the mean of each channel of a picture: three classes."""
    data = ops.parameter(ov.PartialShape(list(shape)), np.float32, name="data")
    data.output(0).set_names({"data"})
    mean = ops.reduce_mean(data, np.array([1, 2]))
    mean.output(0).set_names({"mean"})
    model = ov.Model([ops.result(mean)], [data])
    if card is not None:
        card.write(model)
    ov.save_model(model, folder / "means.xml", compress_to_fp16=False)
    return read_source(str(folder / "means.xml"))


def published(found: SourceModel, folder: Path, card: Card | None = None, **more: Any) -> tuple[Any, Any]:
    said: list[str] = []
    order = ConvertOrder("means", card or Card(), **more)
    file, report = convert(found, order, Repository(folder / "models"), Settings(), said.append)
    assert said[0] == "converting means.xml"
    return openvino_core().read_model(file.xml), report


def test_the_users_words_overrule_the_sources_card_and_the_rest_stays(tmp_path):
    brought = Card(labels=("r", "g", "b"), topk=2, mean_values=(1.0,), input_dtype="u8")
    model, _ = published(
        source(tmp_path, card=brought), tmp_path, Card(mean_values=(9.0,), topk=1), parity=False
    )
    card = Card.read(model)
    assert (card.labels, card.topk, card.mean_values) == (("r", "g", "b"), 1, (9.0,))
    assert (card.source, card.input_dtype) == ("means.xml", "f32")  # a fact of the graph, whatever was said
    assert model.get_rt_info([OWN, "converted", "framework"]).astype(str) == "ir"


def test_a_source_that_is_named_is_kept(tmp_path):
    model, _ = published(source(tmp_path, card=Card(source="a paper")), tmp_path, parity=False)
    assert Card.read(model).source == "a paper"
    found = source(tmp_path, card=Card(source="a paper"))
    again, _ = published(found, tmp_path, Card(source="a page"), parity=False)
    assert Card.read(again).source == "a page"


@pytest.mark.parametrize("model_type", ["", "Classification"])
def test_labels_of_another_number_than_the_classes_publish_nothing(tmp_path, model_type):
    card = Card(labels=("a", "b"), model_type=model_type)
    with pytest.raises(UsageError, match="--labels has 2 names, the model 3 classes"):
        published(source(tmp_path), tmp_path, card)
    assert not (tmp_path / "models").exists()


def test_the_report_is_kept_beside_the_ir_and_compares_with_the_original(tmp_path):
    _, report = published(source(tmp_path), tmp_path, Card(labels=("r", "g", "b")))
    assert json.loads((tmp_path / "models" / "means" / "1" / "report.json").read_text()) == report
    assert (report["inputs"], report["outputs"]) == (["data f32[1,8,8,3]"], ["mean f32[1,3]"])
    assert report["answers"] == "Classification: as many labels as scores, 3"
    parity = report["parity"]
    assert parity["original"].startswith("openvino ")
    assert parity["outputs"][0] == {
        "name": "mean",
        "pictures": 4,
        "max_abs_diff": 0.0,
        "mean_abs_diff": 0.0,
        "top1_agreement": 1.0,
        "pixel_agreement": None,
        "mean_iou": None,
    }


def test_an_original_that_answers_otherwise_is_seen(tmp_path):
    found = source(tmp_path)
    sums = ops.add(found.model.output(0).get_node().input_value(0), np.float32([9, 0, 0]))
    sums.output(0).set_names({"mean"})
    wrong = ov.Model([ops.result(sums)], found.model.get_parameters())
    _, report = published(dataclasses.replace(found, model=wrong), tmp_path, Card(labels=("r", "g", "b")))
    assert report["parity"]["outputs"][0]["max_abs_diff"] == pytest.approx(9, abs=1e-5)
    assert report["parity"]["outputs"][0]["top1_agreement"] < 1


def test_without_a_framework_to_run_the_report_says_why(tmp_path):
    paddle = read_source(str(Path(__file__).parent / "paddle" / "tiny.pdmodel"), input_shapes(["x[1,3,8,8]"]))
    report = converted(paddle, tmp_path)
    assert report["parity"] == {"not_compared": "a PaddlePaddle model is not run in its own framework"}
    assert converted(paddle, tmp_path, parity=False)["parity"] is None


_FRAMEWORK = """
import os, signal, time
__version__ = "1.0"
class SessionOptions:
    pass
def InferenceSession(*given, **named):
    {act}
"""


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "its process crashed (SIGSEGV)"),
        ("os.abort()", "its process crashed (SIGABRT)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "its process was killed (SIGKILL), most likely for want of"),
        ("os._exit(7)", "its process ended with 7"),
        ("raise MemoryError", "onnxruntime cannot run means.onnx: MemoryError"),
        ("time.sleep(3600)", "it was not done within 5 s (--report-timeout)"),
    ],
)
def test_whatever_the_original_framework_does_the_model_is_published(tmp_path, monkeypatch, act, reason):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "onnxruntime.py").write_text(_FRAMEWORK.format(act=act))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    limit_s = 5 if "sleep" in act else 100
    report = converted(read_source(str(means_onnx(tmp_path))), tmp_path, report_timeout_s=limit_s)
    assert report["parity"]["not_compared"].startswith(reason)
    kept = tmp_path / "models" / "means" / "1"
    assert json.loads((kept / "report.json").read_text()) == report
    assert (kept / "model.xml").is_file()


def means_onnx(folder: Path, *, kernel: int | None = None, sides: tuple[Any, Any] = (8, 8)) -> Path:
    """The mean of each channel, or of windows of a picture."""
    ends = [helper.make_tensor_value_info("mean", TensorProto.FLOAT, None)]
    data = helper.make_tensor_value_info("data", TensorProto.FLOAT, ["N", 3, *sides])
    if kernel is None:
        node = helper.make_node("GlobalAveragePool", ["data"], ["mean"])
    else:
        node = helper.make_node("AveragePool", ["data"], ["mean"], kernel_shape=[kernel, kernel])
    graph = helper.make_graph([node], "means", [data], ends)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(made, folder / "means.onnx")
    return folder / "means.onnx"


def converted(found: SourceModel, folder: Path, **more: Any) -> dict[str, Any]:
    order = ConvertOrder("means", Card(), **more)
    _, report = convert(found, order, Repository(folder / "models"), Settings(), lambda _: None)
    return report


def test_a_model_that_random_rows_are_too_small_for_is_published(tmp_path):
    found = read_source(str(means_onnx(tmp_path, kernel=99, sides=("H", "W"))))
    report = converted(found, tmp_path)
    assert report["parity"]["not_compared"].startswith("onnxruntime cannot run means.onnx: ")
    assert report["complexity"] is None
    assert "has variable sides [?,3,?,?]" in report["notes"][0]


def test_answers_without_a_number_are_a_line_and_the_other_outputs_are_compared(tmp_path):
    """What finds nothing in random rows, such as a detector with its own suppression of boxes."""
    data = helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 4])
    ends = [
        helper.make_tensor_value_info("none", TensorProto.FLOAT, ["k"]),
        helper.make_tensor_value_info("twice", TensorProto.FLOAT, [1, 4]),
    ]
    nodes = [
        helper.make_node("Greater", ["data", "nine"], ["large"]),
        helper.make_node("Compress", ["data", "flat"], ["none"]),
        helper.make_node("Reshape", ["large", "all"], ["flat"]),
        helper.make_node("Add", ["data", "data"], ["twice"]),
    ]
    constants = [
        numpy_helper.from_array(np.float32(9), "nine"),
        numpy_helper.from_array(np.array([-1], np.int64), "all"),
    ]
    nodes = [nodes[0], nodes[2], nodes[1], nodes[3]]
    graph = helper.make_graph(nodes, "finds", [data], ends, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(made, tmp_path / "finds.onnx")
    report = converted(read_source(str(tmp_path / "finds.onnx")), tmp_path)
    none, twice = report["parity"]["outputs"]
    assert none == {"name": "none", "not_compared": "cannot compare 4 answers without a number in them"}
    assert twice["max_abs_diff"] == 0


def test_pictures_for_a_model_that_takes_none_are_refused(tmp_path):
    with pytest.raises(UsageError, match="--images: the model has no picture input"):
        published(source(tmp_path, (1, 8, 8, 7)), tmp_path, images=tmp_path)
    assert not (tmp_path / "models" / "means").exists()


def test_variable_sides_are_noted_and_not_counted(tmp_path):
    _, report = published(source(tmp_path, (1, -1, -1, 3)), tmp_path, parity=False)
    assert report["complexity"] is None
    (note,) = report["notes"]
    assert note.startswith("input data has variable sides [1,?,?,3]: it takes tensors, but no pictures")
    _, fixed = published(source(tmp_path), tmp_path, parity=False)
    assert (fixed["notes"], fixed["complexity"]["multiply_adds"]) == ([], 0)


@pytest.mark.parametrize(
    ("shape", "rows", "alone"),
    [
        ((1, 8, 8, 3), "independent", None),
        ((-1, 3, -1, -1), "", "input 'data' has variable sides"),
    ],
)
def test_card_and_report_say_where_the_batch_is(tmp_path, shape, rows, alone):
    model, report = published(source(tmp_path, shape), tmp_path, parity=False)
    card = Card.read(model)
    assert (card.rows, card.batch_axes) == (rows, (0, 0))
    assert report["batch"]["axes"] == {"inputs": {"data": 0}, "outputs": {"mean": 0}}
    said = report["batch"]["alone"]
    assert said == alone or said.startswith(alone)


def test_a_record_in_the_source_is_not_believed(tmp_path):
    model, _ = published(source(tmp_path, card=Card(rows="mixed")), tmp_path, parity=False)
    assert Card.read(model).rows == "independent"


def photos(folder: Path) -> Path:
    """Two photos of one colour, and a file that is none."""
    folder.mkdir()
    for name, colour in (("blue", (250, 20, 10)), ("red", (10, 20, 250))):
        cv2.imwrite(str(folder / f"{name}.png"), np.full((9, 9, 3), colour, np.uint8))
    (folder / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def test_the_first_answers_to_the_users_photos_are_in_the_report(tmp_path):
    card = Card(labels=("red", "green", "blue"), model_type="Classification", reverse_input_channels=True)
    _, report = published(source(tmp_path), tmp_path, card, parity=False, images=photos(tmp_path / "photos"))
    blue, red, torn = report["first_answers"]
    assert (blue["picture"], blue["predictions"][0]["label"]) == ("blue.png", "blue")
    assert (red["picture"], red["predictions"][0]["label"]) == ("red.png", "red")
    assert "error" in torn
    wrong = dataclasses.replace(card, reverse_input_channels=False)
    _, report = published(source(tmp_path), tmp_path, wrong, parity=False, images=tmp_path / "photos")
    assert report["first_answers"][0]["predictions"][0]["label"] == "red"  # a wrong recipe is seen at once


def test_the_first_answers_of_a_model_that_answers_tensors_are_their_ranges(tmp_path):
    data = ops.parameter(ov.PartialShape([-1, 8, 8, 3]), np.float32, name="data")
    middle = ops.subtract(data, np.float32(100))
    middle.output(0).set_names({"middle"})
    ov.save_model(ov.Model([ops.result(middle)], [data]), tmp_path / "means.xml", compress_to_fp16=False)
    found = read_source(str(tmp_path / "means.xml"))
    _, report = published(found, tmp_path, parity=False, images=photos(tmp_path / "photos"))
    (tensor,) = report["first_answers"][0]["tensors"]
    assert tensor == {
        **{"name": "middle", "shape": [1, 8, 8, 3], "min": -90.0, "max": 150.0},
        "mean": pytest.approx(-6.667, abs=0.01),
    }


def test_what_pictures_get_once_variable_sides_are_fixed_is_noted(tmp_path):
    file = write_onnx(tmp_path, "pytorch", exported={})
    found = read_source(str(file), input_shapes(["pixels[1,3,-1,-1]"]))
    report = convert(
        found, ConvertOrder("net", Card(), parity=False), Repository(tmp_path), Settings(), lambda _: None
    )[1]
    assert report["pictures"] is None
    assert "pictures, once its sides are fixed: RGB: most models of PyTorch take it" in report["notes"][1]


def test_two_outputs_of_one_tensor_are_reported_apart(tmp_path):
    data = ops.parameter([-1, 4], np.float32, name="data")
    data.output(0).set_names({"data"})
    twice = ops.relu(data)
    twice.output(0).set_names({"data_too"})
    ov.save_model(ov.Model([ops.result(twice), ops.result(twice)], [data]), tmp_path / "means.xml")
    _, report = published(read_source(str(tmp_path / "means.xml")), tmp_path, parity=False)
    assert report["outputs"] == ["data_too f32[?,4]", "data_too_1 f32[?,4]"]
    assert report["batch"]["axes"]["outputs"] == {"data_too": 0, "data_too_1": 0}
