"""bf16 is taken where it was measured to change little, and nowhere else."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.models.precision_record import PrecisionRecord
from cpuserve.models.repository import ModelFile
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.precision_choice import choose_precision
from cpuserve.serving.reload_control import ReloadControl
from cpuserve.serving.statistics import Statistics
from cpuserve.serving.version_loader import VersionLoader
from cpuserve.settings import Settings

CAN, CANNOT = ["FP32", "INT8", "BF16"], ["FP32", "INT8"]


def model(agreement: float | None = None) -> ov.Model:
    data = ops.parameter([1, 4], np.float32, name="data")
    made = ov.Model([ops.result(ops.relu(data))], [data], "tiny")
    if agreement is not None:
        PrecisionRecord("bf16", agreement, 0.2, 18, 89, 5, 4, "intel-2c").write(made)
    return made


@pytest.mark.parametrize(
    ("settings", "agreement", "capabilities", "precision", "reason"),
    [
        ({}, None, CAN, "f32", "what bf16 changes in its answers is not recorded: `cpuserve convert --im"),
        ({}, 0.995, CAN, "bf16", "agreement of bf16 with f32 0.9950 on 18 pictures"),
        ({}, 0.95, CAN, "f32", "4 invented), and precision_limit is 0.01"),
        ({"precision_limit": 0.1}, 0.95, CAN, "bf16", "agreement of bf16 with f32 0.9500"),
        ({"precision_limit": 0.0}, 1.0, CAN, "bf16", "agreement of bf16 with f32 1.0000"),
        ({}, 1.0, CANNOT, "f32", "this CPU computes in nothing less"),
        ({"precision": "f32"}, 1.0, CAN, "f32", "precision is f32"),
        ({"precision": "bf16"}, 0.5, CAN, "bf16", "precision is bf16; agreement of bf16 with f32 0.5000"),
        ({"precision": "bf16"}, None, CAN, "bf16", "precision is bf16; what bf16 changes in its answers is"),
        ({"precision": "f16"}, 1.0, CAN, "f16", "precision is f16; what f16 changes in its answers is not"),
        (
            {"plugin_config": '{"INFERENCE_PRECISION_HINT": "bf16"}'},
            *(0.5, CAN, "auto", "plugin_config has INFERENCE_PRECISION_HINT"),
        ),
        (
            {"plugin_config": '{"EXECUTION_MODE_HINT": "ACCURACY"}'},
            *(1.0, CAN, "auto", "plugin_config has EXECUTION_MODE_HINT"),
        ),
    ],
)
def test_the_record_and_the_limit_decide(settings, agreement, capabilities, precision, reason):
    chosen = choose_precision(Settings(**{"precision": "auto", **settings}), model(agreement), capabilities)
    assert chosen.precision == precision
    assert reason in chosen.reason


class Able:
    """A core that claims what it is told; what it compiles for is f32 all the same."""

    def __init__(self, capabilities: list[str]) -> None:
        self._core, self._capabilities = openvino_core(), capabilities
        self.hints: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def get_property(self, *names: str) -> Any:
        return self._capabilities if "OPTIMIZATION_CAPABILITIES" in names else self._core.get_property(*names)

    def compile_model(self, graph: ov.Model, device: str, properties: dict[str, Any]) -> ov.CompiledModel:
        self.hints.append(properties["INFERENCE_PRECISION_HINT"])
        return self._core.compile_model(graph, device, properties | {"INFERENCE_PRECISION_HINT": "f32"})


@pytest.fixture
def file(tmp_path) -> ModelFile:
    ov.save_model(model(0.999), tmp_path / "model.xml")
    return ModelFile("tiny", 1, tmp_path / "model.xml")


@pytest.mark.parametrize(
    ("settings", "capabilities", "hint"),
    [({}, CAN, "bf16"), ({}, CANNOT, "f32"), ({"models": {"tiny": {"precision_limit": 0}}}, CAN, "f32")],
)
def test_a_model_is_compiled_for_what_was_chosen(file, settings, capabilities, hint):
    core = Able(capabilities)
    chosen = Settings(**{"precision": "auto", "max_batch": 1, **settings})
    made = load_pipeline(core, file, chosen, 1)
    assert set(core.hints) == {hint}
    assert made.precision_reason


@pytest.mark.parametrize(("row", "times"), [(0, 1), (1, 0)])
def test_one_of_the_workers_logs_the_precision_and_why(file, caplog, row, times):
    caplog.set_level(logging.INFO)
    control = ReloadControl(rows=2)
    control.join(row)
    version = VersionLoader(1, Statistics(rows=2), control, row)
    state = version.load(file, (), Settings(precision="f32", max_batch=1), str, beside_traffic=False)
    assert state.state == "READY"
    said = [line.getMessage() for line in caplog.records if "computes in" in line.getMessage()]
    assert said == ["model tiny version 1 computes in f32: precision is f32"] * times
