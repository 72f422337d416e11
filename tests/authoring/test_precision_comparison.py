"""`convert` records what bf16 changes in the answers, where the CPU computes in bf16."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.authoring import precision_comparison
from cpuserve.authoring.convert import ConvertOrder, convert
from cpuserve.authoring.precision_comparison import PrecisionTask, compare_on_pictures, record_of
from cpuserve.authoring.source import read_source
from cpuserve.models.card import Card
from cpuserve.models.precision_record import PrecisionRecord
from cpuserve.models.repository import Repository
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.settings import Settings
from tests.isa import NEEDS_BF16


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for number, colour in enumerate(((250, 9, 9), (9, 250, 9), (9, 9, 250))):
        cv2.imwrite(str(tmp_path / "photos" / f"{number}.png"), np.full((8, 8, 3), colour, np.uint8))
    return tmp_path / "photos"


def converted(tmp_path: Path, photos: Path | None, model_type: str = "Classification") -> tuple[Path, Any]:
    """The mean of each channel as a class, and the report."""
    data = ops.parameter([-1, 8, 8, 3], np.float32, name="data")
    weights = np.eye(3, dtype=np.float32)
    means = ops.matmul(ops.reduce_mean(data, np.array([1, 2])), weights, False, False)
    ov.save_model(ov.Model([ops.result(means)], [data]), tmp_path / "means.xml", compress_to_fp16=False)
    card = Card(model_type=model_type, labels=("b", "g", "r"), scale_values=(50.0,))
    order = ConvertOrder("means", card, parity=False, images=photos)
    found = read_source(str(tmp_path / "means.xml"))
    file, report = convert(found, order, Repository(tmp_path / "models"), Settings(), lambda _: None)
    return file.xml, report["bf16"]


def has_bf16() -> bool:
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@NEEDS_BF16
def test_the_record_of_convert_is_in_the_ir_where_the_cpu_has_bf16(tmp_path, photos):
    xml, report = converted(tmp_path, photos)
    record = PrecisionRecord.read(openvino_core().read_model(xml), "bf16")
    if not has_bf16():
        assert report == {"not_compared": "this CPU has no arithmetic in bf16"}
        assert record is None
        return
    assert report["evidence"]["compared_with"] == "the float model's own classes"
    assert record is not None
    assert (record.agreement, record.pictures, record.answers, record.missed) == (1.0, 3, 3, 0)
    assert record == record_of(report)


@NEEDS_BF16
def test_without_pictures_nothing_is_recorded(tmp_path):
    xml, report = converted(tmp_path, None)
    assert report is None
    assert PrecisionRecord.read(openvino_core().read_model(xml), "bf16") is None


@NEEDS_BF16
def test_answers_that_cannot_be_compared_are_a_reason_and_no_record(tmp_path, photos, monkeypatch):
    for picture in photos.iterdir():
        cv2.imwrite(str(picture), np.full((8, 8, 3), (250, 9, 9), np.uint8))
    xml, report = converted(tmp_path, photos)
    if has_bf16():
        assert "gives the same classes on all 3 pictures" in report["not_compared"]
    assert PrecisionRecord.read(openvino_core().read_model(xml), "bf16") is None


def test_a_cpu_without_bf16_is_not_asked_to_compute_in_it(tmp_path, photos, monkeypatch):
    older = SimpleNamespace(get_property=lambda *_: ["FP32", "INT8"])
    xml, _ = converted(tmp_path, None)
    monkeypatch.setattr(precision_comparison, "openvino_core", lambda: older)
    assert dict(compare_on_pictures(PrecisionTask(xml, photos, Settings()))) == {
        "not_compared": "this CPU has no arithmetic in bf16"
    }


@NEEDS_BF16
def test_a_detector_computes_in_what_its_record_allows(data_dir, tmp_path):
    """bf16 gains or loses boxes of FastestDet on some photos: then it is not taken."""
    (tmp_path / "photos").mkdir()
    for name in ("people2.jpeg", "people4.jpeg", "road1_progressive.jpg", "zebra.jpeg"):
        shutil.copy(data_dir / "images" / name, tmp_path / "photos")
    card = Card(model_type="FastestDet", scale_values=(255.0,))
    order = ConvertOrder("det", card, parity=False, images=tmp_path / "photos")
    found = read_source(str(data_dir / "models" / "FastestDet.onnx"))
    file, report = convert(found, order, Repository(tmp_path / "models"), Settings(), lambda _: None)
    for limit in (0.0, 1.0):
        settings = Settings(precision="auto", precision_limit=limit, max_batch=1)
        pipeline = load_pipeline(openvino_core(), file, settings, 1)
        agreement = report["bf16"].get("agreement") if has_bf16() else None
        expected = "f32" if agreement is None or agreement < 1 - limit else "bf16"
        assert pipeline.batcher.engine.read_back()["INFERENCE_PRECISION_HINT"] == expected
        assert "bf16" in pipeline.precision_reason or not has_bf16()
    if has_bf16():
        assert (report["bf16"]["evidence"]["pictures"], report["bf16"]["not_compared"]) == (4, "")
