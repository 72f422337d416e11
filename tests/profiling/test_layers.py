"""The layers of the model that comes along, as OpenVINO counts them."""

from __future__ import annotations

import pytest

from cpuserve.errors import CpuserveError
from cpuserve.profiling.layers import layer_times, usual_batch
from cpuserve.profiling.recording import BatchSpan
from cpuserve.settings import Settings
from tests.conftest import ROOT


def test_layers_are_counted_for_the_batch_that_ran():
    settings = Settings(model_repository=ROOT / "ir_models", plugin_config='{"NUM_STREAMS": 1}')
    layers = layer_times(settings, "digits", batch=3)
    assert {layer.batch for layer in layers} == {2}  # the largest that is compiled and no larger
    assert [layer.mean_us for layer in layers] == sorted((layer.mean_us for layer in layers), reverse=True)
    heavy = {"Convolution", "FullyConnected", "MatMul"}
    assert any(layer.type in heavy for layer in layers)
    assert all(layer.calls >= 1 and layer.exec_type and layer.precision for layer in layers)


def test_a_model_that_is_not_there_is_named():
    with pytest.raises(CpuserveError, match="nothing"):
        layer_times(Settings(model_repository=ROOT / "ir_models"), "nothing", 1)


def test_the_usual_batch_is_the_one_most_rows_are_in():
    sizes = [1, 1, 1, 4, 8]
    assert usual_batch([BatchSpan(0, 0, 0, 0, 0, size) for size in sizes]) == 8
    assert usual_batch([]) == 1
