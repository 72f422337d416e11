"""Precisions are read back from what was compiled, not believed."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.authoring.precisions import HINTS, Precision, compare_precisions, compiled_for, in_force, run
from cpuserve.serving.answer_agreement import ServedAnswers
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.picture_input import PictureSize
from cpuserve.serving.postprocess import Classifier, TensorsOnly
from tests.isa import NEEDS_BF16


@pytest.fixture
def model() -> ov.Model:
    data = ops.parameter([1, 4], np.float32, name="data")
    return ov.Model([ops.result(ops.multiply(data, np.float32(3)))], [data])


@NEEDS_BF16
def test_each_hint_is_reported_as_it_is_in_force(model):
    core = openvino_core()
    rows = [np.array(row, np.float32) for row in ([0.1, 0.2, 0.9, 0.3], [0.9, 0.3, 0.2, 0.1])]
    answers = ServedAnswers(Classifier((), softmax=True), [PictureSize(4, 4)] * 2)
    found = compare_precisions(core, model, rows, answers)
    assert [one.asked for one in found] == list(HINTS)
    assert (found[0].in_force, found[0].agreement, found[0].note) == ("f32", 1.0, "")
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for one, capability in zip(found[1:], ("BF16", "FP16"), strict=True):
        assert one.in_force == in_force(compiled_for(core, model, one.asked))
        if capability in able:
            assert (one.in_force, one.agreement, one.note) == (one.asked, 1.0, "")
            assert one.evidence is not None
            assert (one.evidence.answers, one.evidence.missed, one.evidence.pictures) == (2, 0, 2)
        elif one.in_force == "bf16":  # what a CPU with bf16 alone runs where f16 is asked for
            assert (one.asked, one.agreement) == ("f16", 1.0)
        else:
            assert (one.in_force, one.agreement) == ("f32", None)
            assert one.note == f"this CPU has no arithmetic in {one.asked}: OpenVINO runs it in f32"


def test_what_cannot_be_compared_has_no_agreement(model):
    answers = ServedAnswers(TensorsOnly("it is a table"), [PictureSize(4, 4)])
    found = compare_precisions(openvino_core(), model, [np.ones(4, np.float32)], answers, ("f32", "f16"))
    assert [(one.asked, one.agreement) for one in found] == [("f32", None), ("f16", None)]
    assert "it answers tensors only: it is a table" in found[1].report["not_compared"]


def test_the_note_is_about_the_difference():
    assert Precision("bf16", "bf16", 0.99).note == ""
    assert "no arithmetic in bf16" in Precision("bf16", "f32", None).note


def test_rows_run_one_by_one(model):
    rows = [np.full(4, value, np.float32) for value in (1, 2)]
    outputs = [out.tolist() for (out,) in run(compiled_for(openvino_core(), model, "f32", threads=1), rows)]
    assert outputs == [[3.0] * 4, [6.0] * 4]


def test_a_precision_without_kernels_is_a_reason_and_no_end_of_the_report(model):
    class Limited(ov.Core):
        def compile_model(self, graph: ov.Model, device: str, properties: dict[str, Any]) -> ov.CompiledModel:
            if properties["INFERENCE_PRECISION_HINT"] == "bf16":
                raise RuntimeError("object is not initialized")
            return super().compile_model(graph, device, properties)

    answers = ServedAnswers(Classifier((), softmax=True), [PictureSize(4, 4)] * 2)
    rows = [np.array(row, np.float32) for row in ([0.1, 0.2, 0.9, 0.3], [0.9, 0.3, 0.2, 0.1])]
    exact, half = compare_precisions(Limited(), model, rows, answers, ("f32", "bf16"))
    assert (exact.agreement, half.agreement, half.note) == (1.0, None, "")
    assert "object is not initialized" in half.not_compared
