"""What the list of a repository says of its models, read from XML alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.errors import ModelLoadError, RepositoryError
from cpuserve.models.listing import list_models
from cpuserve.models.port_names import names_of
from cpuserve.models.repository import Repository
from cpuserve.serving.openvino_core import openvino_core

XML = """<net name="n"><layers><layer id="0" name="data" type="Parameter">
<data shape="?,3,8,8" element_type="f32"/><output><port id="0" names="{names}"/></output></layer></layers>
<rt_info><model_info><model_type value="Classification"/><labels value="a b"/></model_info></rt_info></net>"""


def put(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"12345")
    (folder / "model.xml").write_text(text)
    return folder / "model.xml"


def no_other(file: Path) -> dict[str, Any]:
    raise AssertionError(f"{file} is an IR and needs no other reader")


def test_a_row_is_of_the_latest_version(tmp_path):
    put(tmp_path / "cats" / "2", "<net")
    xml = put(tmp_path / "cats" / "10", XML.format(names="pixels"))
    (row,) = list_models(Repository(tmp_path), no_other)
    assert (row["name"], row["versions"], row["path"], row["error"]) == ("cats", [2, 10], str(xml), None)
    assert row["inputs"] == [{"name": "pixels", "type": "f32", "shape": [-1, 3, 8, 8]}]
    assert (row["model_type"], row["labels"], row["bytes"]) == ("Classification", 2, xml.stat().st_size + 5)


def test_an_input_without_a_tensor_name_has_that_of_its_layer(tmp_path):
    put(tmp_path / "cats" / "1", XML.format(names=""))
    assert list_models(Repository(tmp_path), no_other)[0]["inputs"][0]["name"] == "data"


def test_a_broken_file_is_an_error_of_its_row_only(tmp_path):
    put(tmp_path / "bad" / "1", "<net")
    put(tmp_path / "good" / "1", XML.format(names="pixels"))
    bad, good = list_models(Repository(tmp_path), no_other)
    assert "unclosed token" in bad["error"]
    assert good["error"] is None


RGB_255 = '<reverse_input_channels value="YES"/><scale_values value="255"/>'


@pytest.mark.parametrize(
    ("shape", "kind", "info", "words"),
    [
        ("?,3,8,8", "f32", "", "BGR, 0 to 255"),
        ("?,8,8,1", "f32", "", "grey, 0 to 255"),
        ("?,8,8,3", "i8", "", "BGR, value - 128"),
        ("1,3,8,8", "f32", RGB_255, "RGB, value / 255"),
        ("?,3,?,8", "f32", "", None),
        ("?,16", "f32", "", None),
    ],
)
def test_a_row_says_what_becomes_of_a_pixel(tmp_path, shape, kind, info, words):
    text = XML.format(names="x").replace("?,3,8,8", shape).replace("f32", kind)
    put(tmp_path / "cats" / "1", text.replace("<model_info>", f"<model_info>{info}"))
    assert list_models(Repository(tmp_path), no_other)[0]["pictures"] == words


def test_a_model_that_is_no_ir_is_read_by_another(tmp_path):
    folder = tmp_path / "cats" / "1"
    folder.mkdir(parents=True)
    (folder / "net.onnx").write_bytes(b"123")
    (row,) = list_models(Repository(tmp_path), lambda file: {"description": file.name})
    assert (row["description"], row["bytes"], row["pictures"]) == ("net.onnx", 3, None)

    def refused(file: Path) -> dict[str, Any]:
        raise ModelLoadError(f"{file.name} is damaged")

    assert list_models(Repository(tmp_path), refused)[0]["error"] == "net.onnx is damaged"


def test_without_a_repository_there_is_no_list(tmp_path):
    with pytest.raises(RepositoryError, match="no model repository"):
        list_models(Repository(tmp_path / "nowhere"), no_other)


@pytest.mark.parametrize(
    ("own", "names", "shown"),
    [
        ("input", {"input", "in"}, "input"),
        ("Parameter_1", {"long/name:0", "short"}, "short"),
        ("a,b", {"a,b", "c"}, "a,b"),
        ("alone", set(), "alone"),
    ],
)
def test_an_input_of_several_names_is_listed_as_it_is_served(tmp_path, own, names, shown):
    entry = ops.parameter([-1, 4], np.float32, name=own)
    if names:
        entry.output(0).set_names(names)
    file = tmp_path / "several" / "1" / "model.xml"
    file.parent.mkdir(parents=True)
    ov.save_model(ov.Model([ops.result(ops.relu(entry))], [entry]), file)
    (row,) = list_models(Repository(tmp_path), no_other)
    assert row["inputs"][0]["name"] == shown
    assert names_of(openvino_core().read_model(file).input(0))[0] == shown
