"""What works on the graph alone refuses a model that runs Python around it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cpuserve.authoring.evaluation_rows import EvaluationModel
from cpuserve.errors import ModelLoadError
from cpuserve.models.cut_manifest import CutPart
from cpuserve.models.python_steps import PythonSteps
from cpuserve.models.repository import Repository
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.settings import Settings
from tests.conftest import ROOT


def test_a_model_with_steps_is_not_evaluated_without_them(tmp_path: Path) -> None:
    folder = tmp_path / "digits" / "1"
    shutil.copytree(ROOT / "ir_models" / "digits" / "1", folder)
    file = Repository(tmp_path).find("digits")
    assert EvaluationModel.of(openvino_core(), file, Settings()).source.width == 96
    PythonSteps(CutPart("python", "mine:stretch"), None).write(folder)
    with pytest.raises(ModelLoadError, match=r"digits runs Python .* without its steps\.json"):
        EvaluationModel.of(openvino_core(), file, Settings())
