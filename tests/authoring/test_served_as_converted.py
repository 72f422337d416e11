"""A model that is served from the file of its framework answers as the IR that `convert` makes of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from cpuserve.authoring.convert import ConvertOrder, convert
from cpuserve.authoring.source import read_source
from cpuserve.errors import ModelLoadError
from cpuserve.models.card import Card
from cpuserve.models.repository import Repository
from cpuserve.serving.loader import load_pipeline, read
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.pipeline import Pipeline
from cpuserve.serving.request import Request
from cpuserve.settings import Settings
from tests.authoring.saved_model import write_saved_model
from tests.authoring.test_formats import PADDLE
from tests.conftest import ROOT
from tests.isa import has_vnni
from tests.serving.test_input_quantisation import quantised_onnx

EXACT = Settings(precision="f32", decode="exact")


def both(folder: Path, files: list[Path]) -> tuple[Pipeline, Pipeline]:
    """The model of ``files``, its own first, as it is served from them and from its converted form."""
    version = folder / "models" / "straight" / "1"
    version.parent.mkdir(parents=True)
    if files[0].is_dir():
        shutil.copytree(files[0], version)
    else:
        version.mkdir()
        for file in files:
            shutil.copy(file, version)
    repository = Repository(folder / "models")
    order = ConvertOrder("converted", Card(), parity=False)
    convert(read_source(str(files[0])), order, repository, Settings(), lambda _: None)
    straight, converted = (
        load_pipeline(openvino_core(), repository.find(name), EXACT, 1) for name in ("straight", "converted")
    )
    return straight, converted


def same(straight: Pipeline, converted: Pipeline, picture: bytes) -> Any:
    """The answer of both to a picture."""
    assert straight.inputs == converted.inputs
    assert straight.outputs == converted.outputs
    answer = straight.predict(picture, Request())
    assert answer == converted.predict(picture, Request())
    return answer


@pytest.mark.parametrize(
    "file", ["mobilenet_v1_0.25_128_quant.tflite", "mobilenet_v1_0.25_128_frozen.pb", "FastestDet.onnx"]
)
def test_a_file_answers_as_its_converted_form(data_dir: Path, tmp_path: Path, file: str):
    straight, converted = both(tmp_path, [data_dir / "models" / file])
    assert straight.pictures is not None
    if "FastestDet" in file:  # without a model type it answers tensors only
        row = np.random.default_rng(1).random((1, *straight.inputs[0].row_shape), np.float32)
        np.testing.assert_array_equal(
            straight.infer([row], Request())[0], converted.infer([row], Request())[0]
        )
    else:
        picture = (data_dir / "images" / "zebra.jpeg").read_bytes()
        assert same(straight, converted, picture)["predictions"][0]["probability"] > 0.1


def test_signed_bytes_are_fed_without_a_word_of_the_user(
    data_dir: Path, tmp_path: Path, expected: dict[str, Any]
):
    file = "vww_96_int8.tflite"
    pipelines = both(tmp_path, [data_dir / "models" / file])
    for photo, (_, person) in expected["vww"][file].items():
        answer = same(*pipelines, (data_dir / "images" / photo).read_bytes())
        found = {row["class_id"]: row["probability"] for row in answer["predictions"]}
        # CPUs without VNNI add int8 products in 16 bits, which saturate
        assert found[1] == pytest.approx((person + 128) / 256, abs=0.02 if has_vnni() else 0.06), photo


def test_a_saved_model_directory_is_a_version(data_dir: Path, tmp_path: Path):
    graph = data_dir / "models" / "mobilenet_v1_0.25_128_frozen.pb"
    tensors = ("input:0", "MobilenetV1/Predictions/Reshape_1:0")
    saved = write_saved_model(tmp_path / "saved", graph, *tensors)
    straight, converted = both(tmp_path, [saved])
    same(straight, converted, (data_dir / "images" / "zebra.jpeg").read_bytes())
    assert straight.outputs[0].names[0] == "scores"


def test_a_paddle_model_is_a_version(tmp_path: Path):
    straight, converted = both(tmp_path, [PADDLE / "tiny.pdmodel", PADDLE / "tiny.pdiparams"])
    assert straight.checksum != converted.checksum
    same(straight, converted, (ROOT / "docs" / "seven.png").read_bytes())


def write_onnx(folder: Path, producer: str, *, exported: dict[str, str]) -> Path:
    """Shares of three colours, by exponentials and their sum: a softmax that only its values show."""
    port = helper.make_tensor_value_info
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixels"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Exp", ["flat"], ["powers"]),
        helper.make_node("ReduceSum", ["powers", "axes"], ["sum"], keepdims=1),
        helper.make_node("Div", ["powers", "sum"], ["shares"]),
    ]
    graph = helper.make_graph(
        nodes,
        "shares",
        [port("pixels", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [port("shares", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.array([1], np.int64), "axes")],
    )
    opset = helper.make_opsetid("", 13)
    model = helper.make_model(graph, producer_name=producer, opset_imports=[opset], ir_version=8)
    helper.set_model_props(model, exported)
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx"


def test_a_type_that_values_show_and_the_exporters_metadata_are_the_same_served_and_converted(tmp_path: Path):
    exported = {"mean": "[0.5, 0.5, 0.5]", "std": "[0.5, 0.5, 0.5]", "names": "['red', 'green', 'blue']"}
    straight, converted = both(tmp_path, [write_onnx(tmp_path, "pytorch", exported=exported)])
    assert straight.card == converted.card
    assert straight.card.mean_values == (127.5,) * 3
    _, png = cv2.imencode(".png", np.full((8, 8, 3), (0, 0, 255), np.uint8))  # red, as OpenCV writes it
    best, *_ = same(straight, converted, png.tobytes())["predictions"]
    assert best["label"] == "red"
    assert best["probability"] == pytest.approx(np.e / (np.e + 2 / np.e), abs=1e-4)


def test_a_file_that_openvino_does_not_read_is_refused_with_what_to_do(tmp_path: Path):
    file = tmp_path / "net.onnx"
    file.write_bytes(b"nothing")
    with pytest.raises(ModelLoadError, match=r"net\.onnx cannot be read: .*`cpuserve convert` says why"):
        read(openvino_core(), file)


@pytest.mark.parametrize(
    ("kind", "scale", "zero"),
    [
        (TensorProto.INT8, 1 / 255, -128),
        (TensorProto.UINT8, [0.01, 0.02, 0.03], [1, 2, 3]),
        (TensorProto.INT16, 1 / 32767, 0),
    ],
)
def test_quantised_tensors_are_answered_as_onnxruntime_answers_them(
    tmp_path: Path, kind: int, scale: Any, zero: Any
):
    file = quantised_onnx(tmp_path, kind, scale, zero)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    limits = np.iinfo(dtype)
    tensor = np.random.default_rng(3).integers(
        limits.min, limits.max, (2, 3, 4, 4), endpoint=True, dtype=dtype
    )
    (wanted,) = onnxruntime.InferenceSession(str(file)).run(None, {"x": tensor})
    for pipeline in both(tmp_path, [file]):
        (found,) = pipeline.infer([tensor], Request())
        np.testing.assert_allclose(found, wanted, atol=1e-5)
