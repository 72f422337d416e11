"""Rows that wait for company: full batches leave at once, others when their time is over; none is lost."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cpuserve.serving.batcher import DelayedBatcher
from cpuserve.serving.statistics import Statistics
from tests.serving.test_batcher import FakeEngine, ask, wait_until

FOREVER_US = 60e6


@pytest.fixture
def block():
    return Statistics(1, 1)


def patient(engine, block, delay_us):
    return DelayedBatcher(engine, block.recorder(0, "m", 1), delay_us)


def released(block):
    totals = block.totals("m", 1)
    return {why: totals[f"released_{why}"] for why in ("idle", "gathered", "timeout")}


def test_a_full_batch_leaves_at_once(block):
    engine = FakeEngine(streams=1)
    batcher = patient(engine, block, FOREVER_US)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda value: int(ask(batcher, value)[0, 0]), range(8)))
    assert answers == [2 * value for value in range(8)]
    assert engine.runs == [[(0, 8)]]
    assert released(block) == {"idle": 1, "gathered": 0, "timeout": 0}


def test_a_row_without_company_leaves_when_its_time_is_over(block):
    engine = FakeEngine()
    batcher = patient(engine, block, 500)
    assert [int(ask(batcher, value)[0, 0]) for value in range(3)] == [0, 2, 4]
    assert engine.runs == [[(0, 1)]] * 3
    assert released(block) == {"idle": 0, "gathered": 0, "timeout": 3}


def test_what_waited_long_enough_runs_when_a_stream_falls_free(block):
    engine = FakeEngine(streams=1)
    batcher = patient(engine, block, 500)
    engine.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(ask, batcher, 100)
        assert engine.entered.acquire(timeout=10)
        others = [pool.submit(ask, batcher, value) for value in range(1, 4)]
        wait_until(lambda: len(batcher._pending) == 3)
        engine.gate.set()
        assert (first.result(10) == 200).all()
        assert [int(f.result(10)[0, 0]) for f in others] == [2, 4, 6]
    assert released(block)["gathered"] >= 1
    assert batcher._idle_streams == 1


def test_rows_that_come_after_their_slot_left_wait_for_nobody(block):
    engine = FakeEngine(streams=1)
    batcher = patient(engine, block, 500)
    late = batcher.claim()
    assert (ask(batcher, 1) == 2).all()  # leaves without the other row of its slot
    batcher.delay_us = FOREVER_US
    late.inputs[0][:] = 5
    batcher.run(late)
    assert (late.outputs[0] == 10).all()
    batcher.release(late)
    assert released(block) == {"idle": 1, "gathered": 0, "timeout": 1}


def test_a_failing_batch_fails_its_requests_and_no_others(block):
    batcher = patient(FakeEngine(streams=1), block, 500)
    with pytest.raises(RuntimeError, match="negative"):
        ask(batcher, -1)
    assert (ask(batcher, 3) == 6).all()


def test_answers_belong_to_their_rows_under_concurrency(block):
    engine = FakeEngine(streams=2, takes_s=0.0002)
    batcher = patient(engine, block, 300)

    def many(seed):
        counts = np.random.default_rng(seed).integers(1, 9, 60)
        return all(
            (ask(batcher, seed * 1000 + i, int(count)) == 2 * (seed * 1000 + i)).all()
            for i, count in enumerate(counts)
        )

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(many, range(1, 13)))
    assert batcher._idle_streams == 2
    assert not batcher._pending
    assert not batcher._windows
