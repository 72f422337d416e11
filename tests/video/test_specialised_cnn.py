"""Specialised networks of the user's own: what is taken, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest
from openvino import Type
from openvino import opset13 as ops

from cpuserve.errors import UsageError
from cpuserve.video.scale import Scale
from cpuserve.video.specialised_cnn import SpecialisedCnn, as_ir


def write_own(
    path: Path, shape: list[int], kind: Type = Type.u8, *, outputs: int = 1, width: int = 1
) -> Path:
    """A network without metadata that answers the mean of the pixels, 0 to 1."""
    pixels = ops.parameter(shape, kind, name="pixels")
    mean = ops.reduce_mean(ops.convert(pixels, Type.f32), np.array([1, 2, 3]), keep_dims=False)
    answer = ops.reshape(ops.divide(mean, np.float32(255)), np.array([-1, 1]), special_zero=False)
    wide = ops.concat([answer] * width, 1)
    ov.save_model(ov.Model([wide] * outputs, [pixels], "own"), path, compress_to_fp16=False)
    return path


def test_a_network_without_metadata_is_taken_by_its_input(tmp_path):
    network = SpecialisedCnn(write_own(tmp_path / "own.xml", [-1, 24, 32, 1]))
    assert network.scale == Scale(32, 24, "GRAY", "area")
    pixels = np.stack([np.full((24, 32, 1), value, np.uint8) for value in (0, 51, 255)])
    assert network.predict(pixels) == pytest.approx([0, 0.2, 1], abs=1e-6)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"shape": [-1, 24, 32, 3], "kind": Type.f32}, r"is f32: a specialised network takes u8"),
        ({"shape": [1, 24, 32, 3]}, "its first dimension has to be variable"),
        ({"shape": [-1, 3, 24, 32]}, r"no input \[n, height, width, 1 or 3\]"),
        ({"shape": [-1, -1, -1, 3]}, r"no input \[n, height, width, 1 or 3\]"),
        ({"shape": [-1, 24, 32, 3], "outputs": 2}, "has 1 inputs and 2 outputs"),
        ({"shape": [-1, 24, 32, 3], "width": 2}, r"answers \[n, 1\]"),
    ],
)
def test_networks_of_another_kind_are_refused(tmp_path, given, reason):
    with pytest.raises(UsageError, match=reason):
        SpecialisedCnn(write_own(tmp_path / "own.xml", **given))


def test_files_that_are_no_network_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"none\.xml cannot be read: No such file"):
        SpecialisedCnn(tmp_path / "none.xml")
    path = write_own(tmp_path / "own.xml", [-1, 24, 32, 3])
    path.write_text("<net>")
    with pytest.raises(UsageError, match="is no OpenVINO IR"):
        SpecialisedCnn(path)
    path.with_suffix(".bin").unlink()
    with pytest.raises(UsageError, match=r"own\.bin cannot be read"):
        SpecialisedCnn(path)


def write_onnx(path, shape=("n", 20, 30, 3), kind=onnx.TensorProto.UINT8):
    """A network whose probability is that of the mean of all pixels, as an ONNX file."""
    make, proto = onnx.helper, onnx.TensorProto
    nodes = [
        make.make_node("Cast", ["pixels"], ["values"], to=proto.FLOAT),
        make.make_node("ReduceMean", ["values"], ["mean"], axes=[1, 2, 3], keepdims=0),
        make.make_node("Sub", ["mean", "limit"], ["above"]),
        make.make_node("Sigmoid", ["above"], ["chance"]),
        make.make_node("Reshape", ["chance", "column"], ["probability"]),
    ]
    values = [
        make.make_tensor("limit", proto.FLOAT, [], [100.0]),
        make.make_tensor("column", proto.INT64, [2], [-1, 1]),
    ]
    entry = make.make_tensor_value_info("pixels", kind, shape)
    answer = make.make_tensor_value_info("probability", proto.FLOAT, [shape[0], 1])
    graph = make.make_graph(nodes, "mine", [entry], [answer], values)
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_an_onnx_file_is_made_an_ir(tmp_path):
    made = as_ir(write_onnx(tmp_path / "mine.onnx"), tmp_path)
    assert made == tmp_path / "mine.xml"
    network = SpecialisedCnn(made)
    assert network.scale == Scale(30, 20, "RGB", "area")
    pixels = np.stack([np.full((20, 30, 3), value, np.uint8) for value in (90, 100, 101)])
    assert network.predict(pixels) == pytest.approx(1 / (1 + np.exp([10.0, 0.0, -1.0])), abs=1e-5)
    assert as_ir(made, tmp_path / "elsewhere") == made


def test_an_onnx_file_that_is_no_such_network_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"none\.onnx cannot be read: there is no such file"):
        as_ir(tmp_path / "none.onnx", tmp_path)
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(UsageError, match=r"text\.onnx is no ONNX file"):
        as_ir(tmp_path / "text.onnx", tmp_path)
    floats = as_ir(write_onnx(tmp_path / "floats.onnx", kind=onnx.TensorProto.FLOAT), tmp_path)
    with pytest.raises(UsageError, match=r"floats\.xml is f32: a specialised network takes u8 pixels"):
        SpecialisedCnn(floats)
    planes = as_ir(write_onnx(tmp_path / "planes.onnx", ("n", 3, 20, 30)), tmp_path)
    with pytest.raises(UsageError, match=r"planes\.xml has no input \[n, height, width, 1 or 3\]"):
        SpecialisedCnn(planes)
