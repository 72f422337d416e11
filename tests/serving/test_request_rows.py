"""The rows of a request in the batches that it is cut into: its deadline, and its outputs."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace

import numpy as np
import pytest

from cpuserve.errors import DeadlineExceeded, RequestError
from cpuserve.serving.request import Request
from cpuserve.serving.request_rows import run_rows


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
        run_rows(batcher, 500, lambda *_: None, Request(due=time.monotonic() - 1), None)
    assert batcher.ran == 1


def test_outputs_beyond_an_answer_are_not_gathered():
    batcher = Batcher()
    with pytest.raises(RequestError, match=r"500 rows have outputs of 8000 bytes.*7999.*max_answer_bytes"):
        run_rows(batcher, 500, lambda *_: None, Request(max_answer_bytes=7999), None)
    assert batcher.ran == 1
    made = run_rows(batcher, 500, lambda *_: None, Request(max_answer_bytes=8000), None)
    assert made[0].nbytes == 8000


def test_one_with_time_left_is_run_to_its_end():
    batcher = Batcher()
    made = run_rows(batcher, 5, lambda *_: None, Request(due=math.inf), None)
    assert batcher.ran == 5
    assert made[0].shape == (5, 2)


@pytest.mark.parametrize("rows", [1, 3])
def test_outputs_are_copied_out_of_the_rows_which_others_write_next(rows):
    batcher, memory = Batcher(), []
    batcher.release = lambda claimed: memory.append(claimed.outputs[0])
    (made,) = run_rows(batcher, rows, lambda *_: None, Request(), None)
    for output in memory:
        output[:] = 7
    assert made.tolist() == [[0, 0]] * rows
