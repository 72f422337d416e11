"""How large a batch is compiled where nobody says: what the worker's threads can fill."""

from __future__ import annotations

import pytest

from cpuserve.models.repository import Repository
from cpuserve.serving.loader import load_pipeline, new_core
from cpuserve.settings import load
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("given", "threads", "sizes"),
    [
        ({}, 1, [1]),
        ({}, 2, [1, 2]),
        ({"threads": 5}, 1, [1, 2, 4]),
        ({"threads": 40}, 1, [1, 2, 4, 8]),
        ({"max_batch": 4}, 1, [1, 2, 4]),
        ({"max_batch": 1, "threads": 8}, 2, [1]),
    ],
)
def test_sizes_follow_the_threads_unless_they_are_set(given, threads, sizes):
    file = Repository(ROOT / "ir_models").find("digits")
    pipeline = load_pipeline(new_core(), file, load(given, environ={}), threads)
    assert list(pipeline.batcher.engine.sizes) == sizes
