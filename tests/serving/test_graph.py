"""Graphs for batches: what may be reshaped, and what only looks as if it might."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops
from openvino.opset11 import interpolate

from cpuserve.serving.graph import batch_sizes, with_batch
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.servable_graph import free_batch


def resized(*, spread: bool) -> ov.Model:
    """Data and its double in size; with ``spread`` they are added, and the outputs have the batch again."""
    data = ops.parameter([1, 2, 4, 4], np.float32, name="data")
    size = ops.constant(np.array([1, 2, 4, 4], np.int64))
    larger = interpolate(data, size, "nearest", "sizes")
    return ov.Model([ops.add(larger, data) if spread else larger], [data], "resized")


@pytest.mark.parametrize("spread", [True, False])
def test_a_resize_with_the_batch_written_into_it_is_not_batched_until_it_is_freed(spread):
    model = resized(spread=spread)
    assert with_batch(model, 2) is None
    assert batch_sizes(model, 8, None) == [1]
    free_batch(model)
    assert batch_sizes(model, 8, None) == [1, 2, 4, 8]
    both = with_batch(model, 2)
    assert both is not None
    rows = np.arange(64, dtype=np.float32).reshape(2, 2, 4, 4)
    found = openvino_core().compile_model(both, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(rows)[0]
    assert np.array_equal(found, rows * (2 if spread else 1))
