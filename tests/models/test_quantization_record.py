"""The record of a quantised model survives its IR; without it the model is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.errors import ModelLoadError
from cpuserve.models.card import Card
from cpuserve.models.quantization_record import NOT_VALIDATED, Validation
from cpuserve.models.repository import ModelFile
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.settings import Settings

RECORD = Validation(
    source="cats/1",
    method="accuracy_control",
    metric="top1",
    accuracy=0.75,
    accuracy_float=0.7612345678901234,
    pictures=500,
    calibration_pictures=300,
    calibration_sha256="ab" * 32,
    speedup=2.5,
    machine="amd-2c",
)


@pytest.fixture
def model() -> ov.Model:
    data = ops.parameter([1, 4], np.float32, name="data")
    data.output(0).set_names({"data"})
    return ov.Model([ops.result(ops.relu(data))], [data], "tiny")


def saved(model: ov.Model, tmp_path) -> ModelFile:
    ov.save_model(model, tmp_path / "model.xml")
    return ModelFile("tiny", 1, tmp_path / "model.xml")


def test_the_record_survives_the_ir_and_leaves_the_card_alone(model, tmp_path):
    card = Card(model_type="Classification", labels=("a", "b"), description="for tests")
    card.write(model)
    RECORD.write(model)
    read = openvino_core().read_model(saved(model, tmp_path).xml)
    assert Validation.read(read) == RECORD
    assert Card.read(read) == card


def test_a_model_without_one_has_none(model):
    assert Validation.read(model) is None


def test_a_damaged_record_is_refused(model):
    RECORD.write(model)
    model.set_rt_info("much", ["cpuserve", "quantized", "accuracy"])
    with pytest.raises(ModelLoadError, match=r"rt_info/cpuserve/quantized.*'much'"):
        Validation.read(model)


def test_what_nncf_quantised_and_nobody_measured_is_served_on_demand_only(model, tmp_path):
    model.set_rt_info("performance", ["nncf", "quantization", "preset"])
    file = saved(model, tmp_path)
    with pytest.raises(ModelLoadError, match=r"tiny/1 was quantised by NNCF .*--allow-unvalidated"):
        load_pipeline(openvino_core(), file, Settings(max_batch=1), 1)
    load_pipeline(openvino_core(), file, Settings(max_batch=1, allow_unvalidated=True), 1)


def test_what_was_measured_is_served(model, tmp_path):
    model.set_rt_info("performance", ["nncf", "quantization", "preset"])
    RECORD.write(model)
    load_pipeline(openvino_core(), saved(model, tmp_path), Settings(max_batch=1), 1)


def test_what_could_not_be_compared_is_served_on_demand_only(model, tmp_path):
    model.set_rt_info("performance", ["nncf", "quantization", "preset"])
    record = replace(RECORD, decision=NOT_VALIDATED, accuracy=None, accuracy_float=None, metric="agreement")
    record.write(model)
    file = saved(model, tmp_path)
    assert Validation.read(openvino_core().read_model(file.xml)) == record
    with pytest.raises(ModelLoadError, match=r"answers were not compared .*--allow-unvalidated"):
        load_pipeline(openvino_core(), file, Settings(max_batch=1), 1)
    load_pipeline(openvino_core(), file, Settings(max_batch=1, allow_unvalidated=True), 1)


def test_a_record_of_before_intervals_is_read(model):
    RECORD.write(model)
    for name in ("decision", "compared_with", "answers", "drop_low", "drop_high"):
        model.set_rt_info("", ["cpuserve", "quantized", name])
    assert Validation.read(model) == RECORD
