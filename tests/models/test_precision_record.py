"""What a precision changes survives the IR, beside the card."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.errors import ModelLoadError
from cpuserve.models.card import Card
from cpuserve.models.precision_record import PrecisionRecord
from cpuserve.serving.openvino_core import openvino_core

RECORD = PrecisionRecord("bf16", 0.987654321, 0.25, 18, 89, 5, 4, "intel-2c")


@pytest.fixture
def model() -> ov.Model:
    data = ops.parameter([1, 4], np.float32, name="data")
    return ov.Model([ops.result(ops.relu(data))], [data], "tiny")


def test_the_record_survives_the_ir_and_leaves_the_card_alone(model, tmp_path):
    card = Card(precision="auto", labels=("a", "b"))
    card.write(model)
    RECORD.write(model)
    ov.save_model(model, tmp_path / "model.xml")
    read = openvino_core().read_model(tmp_path / "model.xml")
    assert PrecisionRecord.read(read, "bf16") == RECORD
    assert PrecisionRecord.read(read, "f16") is None
    assert Card.read(read) == card


def test_it_says_what_was_compared(model):
    assert str(RECORD) == (
        "agreement of bf16 with f32 0.9877 on 18 pictures (89 answers, 5 missed, 4 invented)"
    )


def test_a_damaged_record_is_refused(model):
    RECORD.write(model)
    model.set_rt_info("some", ["cpuserve", "precision_bf16", "pictures"])
    with pytest.raises(ModelLoadError, match=r"rt_info/cpuserve/precision_bf16.*'some'"):
        PrecisionRecord.read(model, "bf16")
