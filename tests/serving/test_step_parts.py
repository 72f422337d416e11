"""Models with Python before and after them, loaded without a server: other kinds than pictures of digits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.errors import ModelLoadError
from cpuserve.models.card import Card
from cpuserve.models.model_files import files_of, signature_of
from cpuserve.models.repository import Repository
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.pipeline import Pipeline
from cpuserve.serving.request import Request
from cpuserve.settings import Settings

SETTINGS = Settings(precision="f32", max_batch=2, allow_callables=True)
CODE = """
import numpy as np

made = []

class Both:
    def __init__(self):
        made.append(self)
    def __call__(self, *arrays):
        return [array + 1 for array in arrays]

def two(a):
    return a, a * 2

def text(a):
    return np.array(["x"] * len(a))

def lost_rows(a):
    return a[:1]
"""


def load(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: ov.Model,
    settings: Settings = SETTINGS,
    **steps: object,
) -> Pipeline:
    (folder / "step_functions.py").write_text(CODE)
    monkeypatch.syspath_prepend(folder)
    repository = Repository(folder / "models")
    with repository.publish("m", 1) as version:
        ov.save_model(model, version / "model.xml", compress_to_fp16=False)
        (version / "steps.json").write_text(json.dumps(steps))
    return load_pipeline(openvino_core(), repository.find("m"), settings, 1)


def vectors(*shape: int, inputs: int = 1) -> ov.Model:
    """A model of vectors: their sum."""
    given = [ops.parameter(shape, np.float32, name=f"x{place}") for place in range(inputs)]
    for place, parameter in enumerate(given):
        parameter.output(0).set_names({f"x{place}"})
    total = given[0] if inputs == 1 else ops.add(given[0], given[1])
    total = ops.multiply(total, np.float32(3))
    total.output(0).set_names({"sum"})
    model = ov.Model([ops.result(total)], given)
    Card().write(model)
    return model


def run(pipeline: Pipeline, *arrays: np.ndarray) -> list[np.ndarray]:
    return [*pipeline.infer(arrays, Request())]


def test_a_class_is_made_once_for_both_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = "step_functions:Both"
    pipeline = load(tmp_path, monkeypatch, vectors(-1, 4, inputs=2), before=both, after=both)
    import step_functions  # type: ignore[import-not-found]

    assert len(step_functions.made) == 1
    (found,) = run(pipeline, np.zeros((3, 4), np.float32), np.ones((3, 4), np.float32))
    assert (found == 3 * 3 + 1).all()


def test_a_model_of_one_row_runs_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = load(tmp_path, monkeypatch, vectors(1, 4), after="step_functions:two")
    assert [port.names[0] for port in pipeline.outputs] == ["output_0", "output_1"]
    found = run(pipeline, np.ones((3, 4), np.float32))
    assert [array.shape for array in found] == [(3, 4), (3, 4)]
    assert (found[1] == 6).all()


@pytest.mark.parametrize(
    ("after", "why"),
    [
        ("step_functions:text", "give numbers"),
        ("step_functions:lost_rows", r"float32\[1, 4\] for 'sum' and two rows"),
        ("step_functions:made", "is not a function, nor a class"),
    ],
)
def test_what_is_no_step_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str, why: str
) -> None:
    with pytest.raises(ModelLoadError, match=why):
        load(tmp_path, monkeypatch, vectors(-1, 4), after=after)


def test_what_cannot_be_joined_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelLoadError, match="begin with the batch"):
        load(tmp_path, monkeypatch, vectors(5, 4), after="step_functions:two")


def test_only_where_it_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelLoadError, match="allow_callables"):
        load(tmp_path, monkeypatch, vectors(-1, 4), Settings(precision="f32"), after="step_functions:two")


def test_it_is_loaded_again_when_the_steps_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(tmp_path, monkeypatch, vectors(-1, 4), after="step_functions:two")
    file = Repository(tmp_path / "models").find("m")
    steps = file.xml.parent / "steps.json"
    before = signature_of(files_of(file.xml))
    steps.write_text(json.dumps({"after": "step_functions:Both"}))
    assert signature_of(files_of(file.xml)) != before
    (port,) = load_pipeline(openvino_core(), file, SETTINGS, 1).outputs
    assert port.names[0] == "sum"
