"""A pipeline with a cache: the same question is computed once, nothing else is ever shared."""

from __future__ import annotations

import dataclasses

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.errors import ModelLoadError, RequestError
from cpuserve.models.cut_manifest import PYTHON, CutManifest, CutPart
from cpuserve.models.repository import ModelFile, Repository
from cpuserve.serving.cache import CachingPipeline, check_repeatable
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.pipeline import Pipeline
from cpuserve.serving.request import Request
from cpuserve.serving.statistics import Statistics
from cpuserve.settings import Settings
from tests.conftest import ROOT

SEVEN = (ROOT / "docs" / "seven.png").read_bytes()


@pytest.fixture
def digits():
    return Repository(ROOT / "ir_models").find("digits")


@pytest.fixture(scope="module")
def core():
    return openvino_core()


@pytest.fixture
def block():
    return Statistics(1, 1)


@pytest.fixture
def pipeline(core, digits, block):
    settings = Settings(precision="f32", result_cache_bytes=1 << 20, max_batch=1)
    return load_pipeline(core, digits, settings, 1, block.recorder(0, "digits", 1))


def counts(block):
    totals = block.totals("digits", 1)
    hits, misses = totals["cache_hit_count"], totals["cache_miss_count"]
    return hits, misses, totals["executions"], totals["success"], totals["images"]


def test_pictures_are_computed_once(pipeline, block):
    first = pipeline.predict(SEVEN, Request())
    assert first["predictions"][0]["label"] == "7"
    assert pipeline.predict(memoryview(SEVEN), Request()) == first
    assert counts(block) == (1, 1, 1, 2, 1)
    assert block.totals("digits", 1).duration("request")[0] == 2
    assert block.totals("digits", 1).duration("infer")[0] == 1
    assert block.totals("digits", 1)["cache_hit_ns"] > 0


def test_an_answer_can_be_changed_without_changing_the_next(pipeline):
    pipeline.predict(SEVEN, Request())
    pipeline.predict(SEVEN, Request())["predictions"].clear()
    assert pipeline.predict(SEVEN, Request())["predictions"]


def test_what_is_asked_differently_is_computed_anew(pipeline, block):
    assert len(pipeline.predict(SEVEN, Request())["predictions"]) == 5
    assert len(pipeline.predict(SEVEN, Request(), topk=1)["predictions"]) == 1
    drawn = pipeline.render(SEVEN, Request())
    assert drawn.startswith(b"\x89PNG")
    assert pipeline.render(SEVEN, Request(), topk=1).startswith(
        b"\x89PNG"
    )  # alike: the other classes have 0.00
    assert pipeline.render(SEVEN, Request()) == drawn
    assert len(pipeline.predict_all([SEVEN, SEVEN], Request())) == 2
    assert len(pipeline.predict_all([SEVEN], Request())) == 1
    assert pipeline.infer_pictures([SEVEN], Request())[0].shape == (1, 10)
    assert counts(block)[:2] == (1, 7)
    assert pipeline.predict_all([SEVEN], Request()) == pipeline.predict_all([SEVEN], Request())
    assert counts(block)[:2] == (3, 7)


def test_tensors_are_computed_once_and_nobody_can_write_to_the_answer(pipeline, block):
    (port,) = pipeline.inputs
    ones = np.ones((1, *port.row_shape), port.dtype)
    first = pipeline.infer([ones], Request())
    again = pipeline.infer([ones.copy()], Request())
    assert np.array_equal(first[0], again[0])
    assert counts(block)[:3] == (1, 1, 1)
    with pytest.raises(ValueError, match="read-only"):
        again[0][:] = 0
    ones[:, 20:70, 40:60] = 255
    other = pipeline.infer([ones], Request())
    assert not np.array_equal(first[0], other[0])


def test_refusals_leave_nothing_behind(pipeline):
    for _ in range(2):
        with pytest.raises(RequestError):
            pipeline.predict(b"no picture", Request())
        with pytest.raises(RequestError):
            pipeline.predict(SEVEN, Request(), topk=0)
    assert pipeline.results.size_bytes == 0


def test_a_version_loaded_anew_knows_nothing(core, digits, pipeline):
    pipeline.predict(SEVEN, Request())
    assert pipeline.results.size_bytes > 0
    settings = Settings(precision="f32", result_cache_bytes=1 << 20, max_batch=1)
    again = load_pipeline(core, digits, settings, 1)
    assert isinstance(again, CachingPipeline)
    assert again.results.size_bytes == 0


def test_it_is_off_unless_asked_for(core, digits):
    assert type(load_pipeline(core, digits, Settings(precision="f32", max_batch=1), 1)) is Pipeline
    one = Settings(precision="f32", max_batch=1, models={"digits": {"result_cache_bytes": 1}})
    assert isinstance(load_pipeline(core, digits, one, 1), CachingPipeline)


def test_what_answers_the_same_question_in_two_ways_is_refused(core, tmp_path):
    entry = ops.parameter((1, 4), np.float32, name="data")
    noise = ops.random_uniform(np.array([1, 4], np.int64), np.float32(0), np.float32(1), "f32")
    file = tmp_path / "m.xml"
    ov.save_model(ov.Model([ops.result(ops.add(entry, noise))], [entry]), file)
    settings = Settings(precision="f32", result_cache_bytes=1)
    with pytest.raises(ModelLoadError, match=r"RandomUniform.*result_cache_bytes = 0 in \[models.noise\]"):
        load_pipeline(core, ModelFile("noise", 1, file), settings, 1)
    load_pipeline(
        openvino_core(), ModelFile("noise", 1, file), dataclasses.replace(settings, result_cache_bytes=0), 1
    )


def test_a_python_tail_is_refused():
    entry = ops.parameter((1, 4), np.float32)
    model = ov.Model([ops.result(ops.relu(entry))], [entry])
    check_repeatable(model, None, "m")
    with pytest.raises(ModelLoadError, match="mine:tail"):
        check_repeatable(model, CutManifest(None, CutPart(PYTHON, "mine:tail"), (), ()), "m")
