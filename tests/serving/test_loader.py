"""What a model is loaded with: the cache of compiled models."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.errors import ModelLoadError
from cpuserve.models.repository import ModelFile
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.request import Request
from cpuserve.settings import Settings


@pytest.fixture
def doubler(tmp_path):
    entry = ops.parameter((1, 4), np.float32, name="data")
    entry.output(0).set_names({"data"})
    file = tmp_path / "m.xml"
    ov.save_model(ov.Model([ops.result(ops.multiply(entry, np.float32(2)))], [entry]), file)
    return ModelFile("doubler", 1, file)


def test_compiled_models_are_kept_and_used_again(doubler, tmp_path):
    settings = Settings(cache_dir=str(tmp_path / "deep" / "cache"), max_batch=2)
    kept = []
    for _ in range(2):
        pipeline = load_pipeline(openvino_core(), doubler, settings, 1)
        (found,) = pipeline.infer([np.ones((3, 4), np.float32)], Request())
        assert found.tolist() == [[2.0] * 4] * 3
        kept.append(sorted(file.name for file in (tmp_path / "deep" / "cache").glob("*.blob")))
    assert len(kept[0]) == 2  # a batch of one and one of two
    assert kept[0] == kept[1]


def test_a_cache_that_cannot_be_is_named(doubler, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ModelLoadError, match=r"cache_dir .*file"):
        load_pipeline(openvino_core(), doubler, Settings(cache_dir=str(tmp_path / "file")), 1)


def test_a_model_without_inputs_or_outputs_is_refused_in_words(tmp_path):
    constant = ops.add(np.ones((1, 4), np.float32), np.ones((1, 4), np.float32))
    ov.save_model(ov.Model([ops.result(constant)], []), tmp_path / "constant.xml")
    (tmp_path / "empty.pdmodel").touch()
    (tmp_path / "empty.pdiparams").touch()
    for file in ("constant.xml", "empty.pdmodel"):
        with pytest.raises(ModelLoadError, match=f"{file} has no inputs, so no request can be answered"):
            load_pipeline(openvino_core(), ModelFile("m", 1, tmp_path / file), Settings(), 1)
