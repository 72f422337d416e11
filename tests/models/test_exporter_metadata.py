"""What exporters write into or beside a model file becomes fields of the card, and damage is no error."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cpuserve.errors import ModelLoadError
from cpuserve.models.exporter_metadata import exporter_metadata
from cpuserve.models.model_files import files_of
from cpuserve.models.tflite_metadata import associated_files, tflite_metadata

ULTRALYTICS = {
    "author": "Ultralytics",
    "task": "detect",
    "stride": "32",
    "names": "{0: 'person', 1: 'big dog'}",
}
QUANT = "mobilenet_v1_0.25_128_quant.tflite"


def onnx_file(folder: Path, properties: dict[str, str], producer: str = "pytorch") -> Path:
    """A model that does nothing, with metadata."""
    port = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "relu",
        [port("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [port("y", TensorProto.FLOAT, [1, 3, 8, 8])],
    )
    model = helper.make_model(graph, producer_name=producer)
    helper.set_model_props(model, properties)
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx"


def said(folder: Path, properties: dict[str, str]) -> dict[str, Any]:
    return dict(exporter_metadata(onnx_file(folder, properties)).said)


def test_the_producer_of_an_onnx_model_is_read(tmp_path: Path):
    found = exporter_metadata(onnx_file(tmp_path, {}, "tf2onnx"))
    assert (found.framework, found.producer, found.said) == ("onnx", "tf2onnx", {})


def test_ultralytics_says_the_card_that_its_own_openvino_export_has(tmp_path: Path):
    assert said(tmp_path, ULTRALYTICS) == {
        "reverse_input_channels": True,
        "scale_values": (255.0,),
        "labels": ("person", "big dog"),
        "resize_type": "fit_to_window_letterbox",
        "pad_value": 114,
        "model_type": "YOLO",
    }
    classifier = said(tmp_path, ULTRALYTICS | {"task": "classify"})
    assert (classifier["model_type"], classifier["resize_type"]) == ("Classification", "crop")
    for task, kind in (("segment", "YOLO-seg"), ("pose", "YOLO-pose"), ("obb", "YOLO-obb")):
        assert said(tmp_path, ULTRALYTICS | {"task": task})["model_type"] == kind
        assert "model_type" not in said(tmp_path, ULTRALYTICS | {"task": task, "end2end": "True"})
    assert said(tmp_path, ULTRALYTICS | {"end2end": "True"})["model_type"] == "YOLO"  # finds [k, 6]


@pytest.mark.parametrize("written", [json.dumps, repr])
def test_ultralytics_metadata_behind_a_tflite_file_are_read(data_dir: Path, tmp_path: Path, written: Any):
    file = tmp_path / "yolo.tflite"
    shutil.copy(data_dir / "models" / "vww_96_float.tflite", file)
    file.chmod(0o644)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("metadata.json", written(ULTRALYTICS | {"names": {0: "person", 1: "big dog"}}))
    found = exporter_metadata(file)
    assert found.title == "Ultralytics' metadata"
    assert found.said["labels"] == ("person", "big dog")


def test_a_damaged_archive_behind_a_tflite_file_holds_nothing(tmp_path: Path):
    file = tmp_path / "net.tflite"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", json.dumps(ULTRALYTICS) * 20)
    whole = file.read_bytes()
    dice = np.random.default_rng(2)
    for _ in range(300):
        damaged = bytearray(whole)
        for at in dice.integers(0, len(whole), 2):
            damaged[at] = dice.integers(256)
        file.write_bytes(damaged)
        associated_files(file)
    file.write_bytes(whole)
    assert list(associated_files(file)) == ["metadata.json"]


def test_ultralytics_metadata_beside_a_model_are_read_and_belong_to_it(tmp_path: Path):
    text = "date: today\nauthor: Ultralytics\ntask: detect\nnames:\n  0: person\n  1: 'big dog'\nargs:\n"
    (tmp_path / "metadata.yaml").write_text(text)
    (tmp_path / "saved_model.pb").touch()
    found = exporter_metadata(tmp_path)
    assert (found.framework, found.said["labels"]) == ("tf", ("person", "big dog"))
    assert tmp_path / "metadata.yaml" in files_of(tmp_path / "saved_model.pb")
    (tmp_path / "metadata.yaml").write_text("author: somebody else\nnames:\n  0: x\n")
    assert exporter_metadata(tmp_path).said == {}


def test_model_api_keys_of_an_onnx_model_are_read_and_wrong_ones_named(tmp_path: Path):
    keys = {
        "model_info model_type": "Classification",
        "model_info labels": "cat big_dog",
        "model_info mean_values": "123.675 116.28 103.53",
        "model_info reverse_input_channels": "True",
        "model_info optimization_config": "{}",
    }
    assert said(tmp_path, keys) == {
        "model_type": "Classification",
        "labels": ("cat", "big dog"),
        "mean_values": (123.675, 116.28, 103.53),
        "reverse_input_channels": True,
    }
    with pytest.raises(ModelLoadError, match="model_info/mean_values is 'grey'"):
        said(tmp_path, {"model_info mean_values": "grey"})


@pytest.mark.parametrize(
    ("properties", "wanted"),
    [
        ({"Image.BitmapPixelFormat": "Bgr8"}, {"reverse_input_channels": False}),
        ({"Image.BitmapPixelFormat": "Rgb8"}, {"reverse_input_channels": True}),
        (
            {"Image.NominalPixelRange": "Normalized_1_1"},
            {"mean_values": (127.5,), "scale_values": (127.5,)},
        ),
        (
            {"mean": "[0.5, 0.5, 0.5]", "std": "(0.25, 0.25, 0.25)"},
            {"mean_values": (127.5,) * 3, "scale_values": (63.75,) * 3},
        ),
        (
            {"pretrained_cfg": '{"mean": [0.5, 0.5, 0.5], "std": [1, 1, 1]}'},
            {"mean_values": (127.5,) * 3, "scale_values": (255.0,) * 3},
        ),
        ({"class_names": '["a", "b c"]'}, {"labels": ("a", "b c")}),
        ({"character": "x\ny z\n"}, {"labels": ("x", "y z")}),
        ({"mean": "[0.5, 'x', 1]", "std": "[0, 0, 0]", "names": "{", "labels": "one"}, {}),
    ],
)
def test_other_onnx_metadata(tmp_path: Path, properties: dict[str, str], wanted: dict[str, Any]):
    assert said(tmp_path, properties) == wanted


def test_tensorflow_lite_metadata_are_read(data_dir: Path):
    found = exporter_metadata(data_dir / "models" / QUANT)
    assert found.framework == "tflite"
    assert found.said["reverse_input_channels"] is True
    assert (found.said["mean_values"], found.said["scale_values"]) == ((127.5,), (127.5,))
    labels = found.said["labels"]
    assert (len(labels), labels[0], labels[1]) == (1001, "background", "tench, Tinca tinca")
    assert exporter_metadata(data_dir / "models" / "vww_96_float.tflite").said == {}


def test_damaged_tensorflow_lite_metadata_are_none(data_dir: Path, tmp_path: Path):
    whole = (data_dir / "models" / QUANT).read_bytes()
    place = whole.index(b"M001")
    file = tmp_path / "net.tflite"
    dice = np.random.default_rng(5)
    for end in (4, 8, 40, place, place + 40, place + 400):
        file.write_bytes(whole[:end])
        tflite_metadata(file)  # whatever is left of them: no error
    read = 0
    for _ in range(200):
        damaged = bytearray(whole)
        for at in dice.integers(place - 100, place + 900, 6):
            damaged[at] = dice.integers(256)
        file.write_bytes(damaged)
        read += tflite_metadata(file) is not None
    assert 0 < read < 200
    assert tflite_metadata(tmp_path / "missing.tflite") is None
