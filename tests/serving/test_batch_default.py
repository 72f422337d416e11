"""How large a batch is compiled where nobody says: what threads beyond the streams can fill."""

from __future__ import annotations

import numpy as np
import pytest

from cpuserve.models.repository import Repository
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.request import Request
from cpuserve.settings import load
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("given", "threads", "sizes"),
    [
        ({}, 1, [1]),
        ({}, 2, [1]),
        ({"streams": 1}, 3, [1, 2]),
        ({"threads": 4, "max_queue_delay_us": 500.0}, 2, [1, 2, 4]),
        ({"threads": 5}, 1, [1, 2, 4]),
        ({"threads": 40}, 1, [1, 2, 4, 8]),
        ({"max_batch": 4}, 1, [1, 2, 4]),
        ({"max_batch": 1, "threads": 8}, 2, [1]),
    ],
)
def test_sizes_follow_the_threads_unless_they_are_set(given, threads, sizes):
    file = Repository(ROOT / "ir_models").find("digits")
    pipeline = load_pipeline(openvino_core(), file, load({"precision": "f32", **given}, environ={}), threads)
    assert list(pipeline.batcher.engine.sizes) == sizes


def test_rows_of_one_request_spread_over_the_streams_though_no_batch_is_compiled():
    file = Repository(ROOT / "ir_models").find("digits")
    pipeline = load_pipeline(openvino_core(), file, load({"precision": "f32"}, environ={}), 3)
    engine = pipeline.tensors.engine
    assert (list(engine.sizes), engine.rows, engine.streams) == ([1], 3, 3)
    together = []
    run = engine.run
    engine.run = lambda slot, parts: (together.append(len(parts)), run(slot, parts))
    (port,) = engine.inputs
    rows = np.random.default_rng(0).random((7, *port.row_shape), np.float32).astype(port.dtype)
    (found,) = pipeline.infer([rows], Request())
    assert together == [3, 3, 1]
    one = [pipeline.infer([rows[place : place + 1]], Request())[0] for place in range(7)]
    assert (found == np.concatenate(one)).all()
