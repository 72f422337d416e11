from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cpuserve.models.model_files import files_of, signature_of


def write_onnx(folder: Path, value: float, location: str = "odd name.weights") -> Path:
    """Y [N, 4] = x [N, 4] times a matrix of ``value``, which lies in a file of any name."""
    weights = numpy_helper.from_array(np.full((4, 4), value, np.float32), "w")
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", shapes[:1], shapes[1:], [weights]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "m.onnx", save_as_external_data=True, location=location, size_threshold=0)
    return folder / "m.onnx"


def nested(location: str) -> onnx.ModelProto:
    """A model whose external data is that of a constant in a branch of an If."""
    tensor = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value=location)
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    inner = helper.make_graph([helper.make_node("Constant", [], ["y"], value=tensor)], "inner", [], [out])
    node = helper.make_node("If", ["cond"], ["y"], then_branch=inner, else_branch=inner)
    cond = helper.make_tensor_value_info("cond", TensorProto.BOOL, [])
    return helper.make_model(helper.make_graph([node], "outer", [cond], [out]))


def test_an_onnx_model_has_the_files_its_graph_names(tmp_path: Path) -> None:
    model = write_onnx(tmp_path, 1.0)
    (tmp_path / "other.bin").write_bytes(b"not of the model")
    assert files_of(model) == [model, tmp_path / "odd name.weights"]


def test_a_constant_inside_a_branch_counts(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(nested("deep/inside.dat").SerializeToString())
    assert files_of(model) == [model, tmp_path / "deep" / "inside.dat"]


def test_no_file_outside_of_the_directory_belongs_to_a_model(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    for location in ("../outside", "/etc/passwd", "a/../../outside", ""):
        model.write_bytes(nested(location).SerializeToString())
        assert files_of(model) == [model], location


def test_an_onnx_model_that_is_cut_off_or_noise_has_the_files_found_so_far(tmp_path: Path) -> None:
    whole = nested("w.dat").SerializeToString()
    model = tmp_path / "m.onnx"
    for end in range(len(whole)):
        model.write_bytes(whole[:end])
        assert files_of(model)[0] == model
    for seed in range(50):
        model.write_bytes(np.random.default_rng(seed).bytes(500))
        assert files_of(model)[0] == model


def test_weights_beside_an_ir_and_a_paddle_model_and_a_saved_model(tmp_path: Path) -> None:
    assert files_of(tmp_path / "m.xml") == [tmp_path / "m.xml", tmp_path / "m.bin"]
    assert files_of(tmp_path / "m.pdmodel") == [tmp_path / "m.pdmodel", tmp_path / "m.pdiparams"]
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / "variables.index").touch()
    saved = tmp_path / "saved_model.pb"
    assert files_of(saved) == [saved, tmp_path / "variables" / "variables.index"]


def test_parts_of_a_cut_model_are_its_files(tmp_path: Path) -> None:
    write_onnx(tmp_path / "tail", 1.0)
    cut = {"head": {"run": "ir", "what": "head/model.xml"}, "tail": {"run": "onnx", "what": "tail/m.onnx"}}
    (tmp_path / "cut.json").write_text(json.dumps(cut))
    names = [str(path.relative_to(tmp_path)) for path in files_of(tmp_path / "m.xml")]
    assert names == [
        *("m.xml", "cut.json", "head/model.bin", "head/model.xml", "m.bin"),
        *("tail/m.onnx", "tail/odd name.weights"),
    ]


def test_a_model_cut_for_python_functions_has_its_cut(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text(json.dumps({"head": None, "tail": {"run": "python", "what": "m:f"}}))
    assert tmp_path / "cut.json" in files_of(tmp_path / "m.xml")


def test_the_signature_of_files_tells_a_change_and_a_missing_one(tmp_path: Path) -> None:
    model = write_onnx(tmp_path, 1.0)
    before = signature_of(files_of(model))
    data = tmp_path / "odd name.weights"
    os.utime(data, ns=(1, 1))
    changed = signature_of(files_of(model))
    data.unlink()
    missing = signature_of(files_of(model))
    assert len({before, changed, missing}) == 3
    assert missing[1] == (0, 0, 0)


def test_a_new_graph_under_the_same_name_is_walked_again(tmp_path: Path) -> None:
    model = write_onnx(tmp_path, 1.0)
    assert files_of(model)[1].name == "odd name.weights"
    write_onnx(tmp_path, 1.0, "another.dat")
    assert files_of(model)[1].name == "another.dat"
