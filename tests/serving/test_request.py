"""A request's deadline between the batches that it is cut into."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace

import numpy as np
import pytest

from cpuserve.errors import DeadlineExceeded, RequestError
from cpuserve.serving import pipeline
from cpuserve.serving.request import Request


class Batcher:
    """Runs one row at a time, and counts the rows."""

    max_batch = 1

    def __init__(self):
        self.ran = 0

    def claim(self, count):
        return SimpleNamespace(
            count=count, outputs=[np.zeros((count, 2))], started_ns=0, finished_ns=0, led=True
        )

    def run(self, _rows):
        self.ran += 1

    def release(self, rows):
        pass


def test_a_request_of_many_rows_ends_with_its_deadline():
    batcher = Batcher()
    with pytest.raises(DeadlineExceeded, match=r"1 of its 500 rows.*deadline_ms"):
        pipeline._in_batches(batcher, 500, lambda *_: None, Request(due=time.monotonic() - 1), None)
    assert batcher.ran == 1


def test_outputs_beyond_an_answer_are_not_gathered():
    batcher = Batcher()
    with pytest.raises(RequestError, match=r"500 rows have outputs of 8000 bytes.*7999.*max_answer_bytes"):
        pipeline._in_batches(batcher, 500, lambda *_: None, Request(max_answer_bytes=7999), None)
    assert batcher.ran == 1
    made = pipeline._in_batches(batcher, 500, lambda *_: None, Request(max_answer_bytes=8000), None)
    assert made[0].nbytes == 8000


def test_one_with_time_left_is_run_to_its_end():
    batcher = Batcher()
    made = pipeline._in_batches(batcher, 5, lambda *_: None, Request(due=math.inf), None)
    assert batcher.ran == 5
    assert made[0].shape == (5, 2)
