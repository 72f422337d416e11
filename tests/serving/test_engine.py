"""Compiled batches on streams that share their weights, and on streams with weights of their own."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.serving.batcher import Batcher
from cpuserve.serving.cut_parts import GraphRunner
from cpuserve.serving.engine import OpenVinoEngine, _together
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.statistics import Statistics

WIDE = 512


def times_two(*, rank_known=True):
    """Doubles rows of 4; with an output that OpenVINO gives a size only when it has run, if asked to."""
    entry = ops.parameter((-1, 4) if rank_known else (1, 4), np.float32, name="x")
    doubled = ops.multiply(entry, np.float32(2))
    if not rank_known:
        places = ops.non_zero(doubled)
        return ov.Model([ops.result(ops.convert(places, np.float32))], [entry])
    return ov.Model([ops.result(doubled)], [entry])


def heavy():
    """Enough work to see in whose time it is done."""
    entry = ops.parameter((-1, WIDE), np.float32, name="x")
    value = entry
    weights = np.random.default_rng(0).random((WIDE, WIDE), np.float32) / WIDE
    for _ in range(40):
        value = ops.matmul(value, weights, transpose_a=False, transpose_b=False)
    return ov.Model([ops.result(value)], [entry])


def engine(model, sizes=(1, 2, 4), *, own, streams=2, threads=2):
    made = OpenVinoEngine(
        *(openvino_core(), model, sizes),
        streams=streams,
        threads=threads,
        properties={"INFERENCE_PRECISION_HINT": "f32"},
        own_weights=own,
    )
    made.warm()
    return made


@pytest.mark.parametrize("sizes", [(), (1, 2, 4)])  # none: it has no batch
def test_an_input_that_is_an_output_too_is_passed_on(sizes):
    rows = 3 if sizes else 1
    a, b = (
        ops.parameter((-1 if sizes else 1, 2), kind, name=kind.__name__) for kind in (np.float32, np.int64)
    )
    model = ov.Model([ops.result(value) for value in (b, ops.relu(a), a, b)], [a, b])
    batcher = Batcher(engine(model, sizes, own=False), Statistics(1, 1).recorder(0, "m", 1))
    for number in (1, 7):
        claimed = batcher.claim(rows)
        values = number + np.arange(rows * 2).reshape(rows, 2)
        for target in claimed.inputs:
            target[:] = values
        batcher.run(claimed)
        try:
            assert [output.reshape(rows, 2).tolist() for output in claimed.outputs] == [values.tolist()] * 4
            assert [output.dtype.name for output in claimed.outputs] == [
                "int64",
                "float32",
                "float32",
                "int64",
            ]
        finally:
            batcher.release(claimed)


@pytest.mark.parametrize("own", [False, True])
def test_every_row_gets_its_own_answer_whoever_calls(own):
    made = engine(times_two(), own=own)
    assert made.streams == 2
    batcher = Batcher(made, Statistics(1, 1).recorder(0, "m", 1))

    def ask(value):
        count = 1 + value % 4
        rows = batcher.claim(count)
        try:
            rows.inputs[0][:] = np.arange(count)[:, None] + 10 * value
            batcher.run(rows)
            return (rows.outputs[0] == 2 * (np.arange(count)[:, None] + 10 * value)).all()
        finally:
            batcher.release(rows)

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(ask, range(300)))


@pytest.mark.parametrize("own", [False, True])
def test_more_callers_than_streams_wait_for_each_other(own):
    made = engine(times_two(), (1,), own=own)
    part = GraphRunner(made)

    def ask(value):
        (found,) = part([np.full((1, 4), value, np.float32)])
        return (found == 2 * value).all()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(200)))
    assert sorted(made._idle) == ([0, 1] if own else [0, 0])


def test_a_stream_with_weights_of_its_own_computes_in_the_thread_that_calls():
    shares = {}
    for own in (False, True):
        made = engine(heavy(), (1,), own=own)
        slot = made.new_slot()
        began, thread = time.process_time(), time.thread_time()
        for _ in range(20):
            made.run(slot, [(0, 1)])
        shares[own] = (time.thread_time() - thread) / (time.process_time() - began)
    assert shares[True] > 0.8
    assert shares[False] < 0.5


def test_the_properties_are_those_of_all_compiled_models():
    found = engine(times_two(), own=True, streams=2, threads=4).read_back()
    assert (found["NUM_STREAMS"], found["INFERENCE_NUM_THREADS"], found["COMPILED_MODELS"]) == ("2", "4", "2")
    assert "COMPILED_MODELS" not in engine(times_two(), own=False).read_back()


def test_an_output_whose_size_is_known_late_is_the_one_of_the_stream_that_ran():
    made = engine(times_two(rank_known=False), own=True)
    batcher = Batcher(made, Statistics(1, 1).recorder(0, "m", 1))

    def ask(ones):
        rows = batcher.claim()
        try:
            rows.inputs[0][0] = [1.0] * ones + [0.0] * (4 - ones)
            batcher.run(rows)
            return rows.outputs[0].shape[-1] == ones
        finally:
            batcher.release(rows)

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(ask, [1, 2, 3, 4] * 20))


def test_a_failure_gives_the_stream_back():
    made = engine(times_two(), (1,), own=True)
    slot = made.new_slot()
    with pytest.raises(KeyError):
        made.run(slot, [(5, 1)])
    assert sorted(made._idle) == [0, 1]


class _Request:
    """Stands for a request of OpenVINO that fails where it is told to."""

    def __init__(self, *failing):
        self.failing, self.calls = failing, []

    def _called(self, name):
        self.calls.append(name)
        if name in self.failing:
            raise RuntimeError(f"{name} failed")

    def start_async(self):
        self._called("start_async")

    def wait(self):
        self._called("wait")

    def infer(self, share_outputs):
        self._called("infer")


@pytest.mark.parametrize("failing", [("wait",), ("start_async",), ("infer",)])
def test_whatever_fails_nothing_that_was_started_is_left_unwaited(failing):
    for place in range(3):
        requests = [_Request(*(failing if at == place else ())) for at in range(4)]
        if failing == ("infer",):
            requests[3] = _Request(*failing)
        with pytest.raises(RuntimeError, match=failing[0]):
            _together(requests)
        for at, request in enumerate(requests[:3]):
            started = "start_async" in request.calls and "start_async" not in request.failing
            assert ("wait" in request.calls) is started, (place, at)
