"""Models of every framework become graphs, and those that cannot are named with what to try."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.authoring.source import input_shapes, names_in, read_model, read_source, select
from cpuserve.errors import MissingExtra, ModelLoadError, UsageError
from cpuserve.serving.openvino_core import openvino_core
from tests.authoring.test_formats import PADDLE
from tests.conftest import ROOT
from tests.models.test_model_files import write_onnx

DIGITS = ROOT / "ir_models" / "digits" / "1" / "model.xml"
EXACT = {"INFERENCE_PRECISION_HINT": "f32"}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No way out: what OpenVINO would report about its use fails the test."""

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refused)


def run(model: ov.Model, picture: Any) -> Any:
    return np.array(openvino_core().compile_model(model, "CPU", EXACT)(picture)[0])


@pytest.mark.parametrize(
    ("file", "framework", "shape"),
    [
        ("FastestDet.onnx", "onnx", [1, 3, 352, 352]),
        ("mobilenet_v1_0.25_128_frozen.pb", "tf", [1, 128, 128, 3]),
        ("mobilenet_v1_0.25_128_quant.tflite", "tflite", [1, 128, 128, 3]),
    ],
)
def test_real_models_are_read(data_dir: Path, file: str, framework: str, shape: list[int]):
    source = read_source(str(data_dir / "models" / file))
    assert (source.framework, source.name) == (framework, file)
    assert list(source.model.input(0).shape) == shape
    assert len(source.sha256) == 64


def test_paddle_answers_as_paddle_does():
    # the answer Paddle gave when tests/authoring/paddle/make.py wrote the file
    expected = [0.22269735, 0.1536469, 0.16521685, 0.25943014, 0.1990088]
    source = read_source(str(PADDLE / "tiny.pdmodel"), input_shapes(["x[1,3,8,8]"]))
    picture = np.linspace(0, 1, 192, dtype=np.float32).reshape(1, 3, 8, 8)
    assert run(source.model, picture)[0] == pytest.approx(expected, abs=1e-6)


def test_an_ir_is_read():
    source = read_source(str(DIGITS))
    assert (source.framework, source.title, source.name) == ("ir", "an OpenVINO IR", "model.xml")


def test_the_only_input_needs_no_name():
    source = read_source(str(PADDLE / "tiny.pdmodel"), input_shapes(["[2,3,8,8]"]))
    assert list(source.model.input("x").shape) == [2, 3, 8, 8]


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (
            "mobilenet_v1_0.25_128_quantized_graph.pb",
            "No conversion rule found for operations: .*Dequantize; export it without them",
        ),
        (
            "mobilenet_v2_quant_msft_qlinear.onnx",
            "com.microsoft.QLinearGlobalAveragePool; .*--output 697_quantized",
        ),
        (
            "deeplab_edgetpu_slim_cityscapes_quant.tflite",
            "Argument shapes are inconsistent.*; export it again with another exporter or opset",
        ),
    ],
)
def test_what_openvino_refuses_is_named_with_the_reason(data_dir: Path, file: str, words: str):
    with pytest.raises(ModelLoadError, match=rf"OpenVINO \S+ cannot import {file}: .*{words}"):
        read_source(str(data_dir / "models" / "rejected" / file))


def test_a_truncated_tflite_is_refused(data_dir: Path, tmp_path: Path):
    whole = (data_dir / "models" / "vww_96_int8.tflite").read_bytes()
    cut = tmp_path / "vww.tflite"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelLoadError, match=r"cannot import vww.tflite: .*corrupted.*; copy or download it"):
        read_source(str(cut))


def test_truncated_weights_of_an_ir_are_refused(tmp_path: Path):
    shutil.copy(DIGITS, tmp_path)
    (tmp_path / "model.bin").write_bytes(DIGITS.with_suffix(".bin").read_bytes()[:1000])
    with pytest.raises(ModelLoadError, match=r"cannot import model.xml: .*"):
        read_source(str(tmp_path / "model.xml"))


def test_shapes_are_read_as_openvinos_tools_read_them():
    found = input_shapes(["a[1,3,?,224],b[-1,5]", "c:0[1..8,2]", "d"])
    assert {name: str(shape) for name, shape in found.items()} == {
        "a": "[1,3,?,224]",
        "b": "[?,5]",
        "c:0": "[1..8,2]",
        "d": "[...]",
    }
    assert input_shapes([]) == {}
    for wrong in ("a[1,x]", "a[1,3", "a]3["):
        with pytest.raises(UsageError, match="is not NAME"):
            input_shapes([wrong])


def test_unknown_names_have_near_ones(data_dir: Path):
    graph = str(data_dir / "models" / "mobilenet_v1_0.25_128_frozen.pb")
    with pytest.raises(UsageError, match=r"--input inptu: no tensor of that name; did you mean input\?"):
        read_source(graph, input_shapes(["inptu[1,128,128,3]"]))
    with pytest.raises(UsageError, match=r"--output MobilenetV1/Prediction/Reshape: .*Predictions/Reshape_1"):
        read_source(graph, outputs=["MobilenetV1/Prediction/Reshape"])
    with pytest.raises(UsageError, match=r"there are .*cpuserve cut"):
        read_source(graph, outputs=["zzz"])


def test_a_shape_the_graph_does_not_take_is_refused(data_dir: Path):
    with pytest.raises(ModelLoadError, match=r"mobilenet\S+ does not take --input input\[1,128,128,4\]: "):
        read_source(
            str(data_dir / "models" / "mobilenet_v1_0.25_128_frozen.pb"),
            input_shapes(["input[1,128,128,4]"]),
        )


def test_a_graph_ends_where_it_is_told(data_dir: Path):
    file = data_dir / "models" / "nanodet_m_416.onnx"
    model = read_source(str(file), outputs=["795", "792"]).model
    assert [port.get_any_name() for port in model.outputs] == ["795", "792"]
    assert "795" in names_in(read_model(file))


def test_idle_inputs_go_and_operations_without_tensor_names_are_found():
    used, idle = ops.parameter([1, 2], name="used"), ops.parameter([1, 2], name="idle")
    inner = ops.relu(used, name="inner")
    model = ov.Model([ops.add(inner, idle)], [used, idle], "two")
    selected = select(model, ["inner"])
    assert [port.get_node().get_friendly_name() for port in selected.inputs] == ["used"]
    assert selected.output(0).get_names() == {"inner"}
    assert len(model.inputs) == 2


def saved(folder: Path, model: ov.Model) -> str:
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)
    return str(folder / "model.xml")


def test_nan_weights_are_refused_with_their_place(tmp_path: Path):
    weights = np.ones((4, 3), np.float32)
    weights[1, 2] = np.nan
    data = ops.parameter([1, 3], np.float32, name="data")
    model = ov.Model(
        [ops.matmul(data, ops.constant(weights, name="w"), False, True, name="head")], [data], "m"
    )
    with pytest.raises(
        ModelLoadError, match=r"1 of the 12 weights 'w' of model.xml, which 'head' reads, are NaN"
    ):
        read_source(saved(tmp_path, model))


def test_a_dynamic_rank_is_refused_until_a_shape_is_said(tmp_path: Path):
    data = ops.parameter(ov.PartialShape.dynamic(), np.float32, name="data")
    data.output(0).set_names({"data"})
    file = saved(tmp_path, ov.Model([ops.relu(data)], [data], "m"))
    with pytest.raises(ModelLoadError, match=r"input 'data' of model.xml .*--input data\[1,3,224,224\]"):
        read_source(file)
    assert list(read_source(file, input_shapes(["data[1,3,8,8]"])).model.output(0).shape) == [1, 3, 8, 8]


def test_an_output_of_dynamic_rank_is_refused(tmp_path: Path):
    data, shape = ops.parameter([4], np.float32, name="data"), ops.parameter([-1], np.int64, name="shape")
    file = saved(tmp_path, ov.Model([ops.reshape(data, shape, False)], [data, shape], "m"))
    with pytest.raises(ModelLoadError, match=r"output .*dynamic rank.*--output"):
        read_source(file)
    with pytest.raises(UsageError, match=r"has 2 inputs: --input needs a name"):
        read_source(file, input_shapes(["[4]"]))


def test_a_pytorch_model_without_pytorch_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"pip install 'cpuserve\[train\]'"):
        read_source("some.module:Net")


def test_the_checksum_covers_the_file_that_holds_the_weights(tmp_path: Path) -> None:
    first, second = (read_source(str(write_onnx(tmp_path / str(value), value))) for value in (1.0, 2.0))
    assert (tmp_path / "1.0/m.onnx").read_bytes() == (tmp_path / "2.0/m.onnx").read_bytes()
    assert first.sha256 != second.sha256
