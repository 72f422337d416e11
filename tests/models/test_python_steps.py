"""`steps.json` and its words on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cpuserve.errors import ModelLoadError, UsageError
from cpuserve.models.cut_manifest import CutManifest, CutPart, CutPort
from cpuserve.models.model_files import files_of
from cpuserve.models.python_steps import PythonSteps


def test_words_are_kept_and_read_again(tmp_path: Path) -> None:
    steps = PythonSteps.parse("mine.steps:before", "mine:After")
    assert steps == PythonSteps(CutPart("python", "mine.steps:before"), CutPart("python", "mine:After"))
    steps.write(tmp_path)
    assert PythonSteps.of(tmp_path / "model.onnx") == steps
    assert tmp_path / "steps.json" in files_of(tmp_path / "model.onnx")  # it is loaded again on a change
    assert PythonSteps.parse("", "") is None
    assert PythonSteps.of(tmp_path / "other" / "model.onnx") is None


@pytest.mark.parametrize("text", ["ir", "none", "onnx:a.onnx", "mine", "mine:f()", "os:system;rm"])
def test_words_that_are_no_function(text: str) -> None:
    with pytest.raises(UsageError, match=r"--after .*MODULE:FUNCTION or MODULE:CLASS"):
        PythonSteps.parse("mine:f", text)


def test_inputs_and_outputs_may_be_given(tmp_path: Path) -> None:
    port = {"name": "x", "type": "f32", "shape": [-1, -1, 4]}
    (tmp_path / "steps.json").write_text(json.dumps({"after": "a:b", "outputs": [port]}))
    found = PythonSteps.of(tmp_path / "model.xml")
    assert found is not None
    assert found.outputs == (CutPort(("x",), "f32", (-1, -1, 4)),)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "cannot be read"),
        ("[]", "is no object; it may have before, after"),
        ('{"head": "a:b"}', "has head; it may have before, after, inputs, outputs"),
        ('{"before": "os.system"}', "give MODULE:FUNCTION"),
        ('{"before": 7}', "damaged"),
        ('{"outputs": [{"name": "x", "type": "f33", "shape": [1]}]}', "type 'f33'"),
        ('{"outputs": [{"name": "x", "type": "f32", "shape": [-2]}]}', "shape"),
        ('{"outputs": [{"name": 5, "type": "f32", "shape": [1]}]}', "name"),
        ('{"outputs": [{"type": "f32", "shape": [1]}]}', "damaged at 'name'"),
    ],
)
def test_damaged_files(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "steps.json").write_text(text)
    with pytest.raises(ModelLoadError, match=rf"steps\.json.*{why}"):
        PythonSteps.of(tmp_path / "model.xml")


def test_a_cut_model_has_its_functions_in_one_file(tmp_path: Path) -> None:
    PythonSteps(CutPart("python", "a:b"), None).write(tmp_path)
    CutManifest(None, None, (), ()).write(tmp_path)
    with pytest.raises(ModelLoadError, match="beside a cut model"):
        PythonSteps.of(tmp_path / "model.xml")
