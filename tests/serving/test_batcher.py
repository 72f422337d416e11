"""The batcher with a fake engine: rows never get another's answer, whatever runs together."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cpuserve.serving.batcher import Batcher, split
from cpuserve.serving.engine import Port
from cpuserve.serving.statistics import Statistics


class FakeSlot:
    def __init__(self, largest):
        self.inputs = (np.zeros((largest, 2), np.float32),)
        self.results = np.zeros((largest, 2), np.float32)

    def outputs(self, first, count):
        return (self.results[first : first + count],)


class FakeEngine:
    """Doubles its rows; can be held inside a run, and refuses negative numbers."""

    def __init__(self, sizes=(1, 2, 4, 8), streams=2, takes_s=0.0):
        self.sizes, self.rows, self.streams, self.takes_s = sizes, sizes[-1], streams, takes_s
        self.inputs = self.outputs = (Port(("x",), np.dtype(np.float32), (2,)),)
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.runs = []
        self.now = self.most = 0
        self._lock = threading.Lock()

    def new_slot(self):
        return FakeSlot(self.rows)

    def run(self, slot, parts):
        with self._lock:
            self.now += len(parts)
            self.most = max(self.most, self.now)
            self.runs.append(list(parts))
        self.entered.release()
        assert self.gate.wait(10)
        time.sleep(self.takes_s)
        for first, size in parts:
            slot.results[first : first + size] = slot.inputs[0][first : first + size] * 2
        with self._lock:
            self.now -= len(parts)
        if (slot.inputs[0][first : first + size] < 0).any():
            raise RuntimeError("negative")


def ask(batcher, value, count=1):
    rows = batcher.claim(count)
    try:
        rows.inputs[0][:] = value
        batcher.run(rows)
        return rows.outputs[0].copy()
    finally:
        batcher.release(rows)


def test_alone_a_row_runs_alone_and_the_same_memory_is_used_again():
    engine = FakeEngine()
    batcher = Batcher(engine, Statistics(1, 1).recorder(0, "m", 1))
    for value in range(5):
        assert (ask(batcher, value) == 2 * value).all()
    assert engine.runs == [[(0, 1)]] * 5


def test_with_all_streams_busy_rows_gather_and_leave_as_one_batch():
    engine = FakeEngine(streams=1)
    batcher = Batcher(engine, Statistics(1, 1).recorder(0, "m", 1))
    engine.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(ask, batcher, 100)
        assert engine.entered.acquire(timeout=10)
        others = [pool.submit(ask, batcher, value) for value in range(1, 6)]
        wait_until(lambda: len(batcher._pending) == 5)
        engine.gate.set()
        assert (first.result() == 200).all()
        assert [int(f.result()[0, 0]) for f in others] == [2, 4, 6, 8, 10]
    assert engine.runs == [[(0, 1)], [(1, 1), (2, 2), (4, 2)]]
    assert batcher._idle_streams == 1


def test_rows_of_different_slots_are_different_batches():
    engine = FakeEngine(sizes=(1, 2), streams=1)
    batcher = Batcher(engine, Statistics(1, 1).recorder(0, "m", 1))
    engine.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(ask, batcher, 100)]
        assert engine.entered.acquire(timeout=10)
        waiting += [pool.submit(ask, batcher, value) for value in range(1, 7)]
        wait_until(lambda: len(batcher._pending) == 6)
        engine.gate.set()
        assert sorted(int(f.result()[0, 0]) for f in waiting) == [2, 4, 6, 8, 10, 12, 200]
    assert all(sum(size for _, size in parts) <= 2 for parts in engine.runs)


def test_a_request_that_used_two_streams_gives_both_back_to_those_that_wait():
    engine = FakeEngine(sizes=(1, 2), streams=2)
    batcher = Batcher(engine, Statistics(1, 1).recorder(0, "m", 1))
    engine.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(ask, batcher, 9, 2)]  # two rows over both streams
        assert engine.entered.acquire(timeout=10)
        waiting += [pool.submit(ask, batcher, value, 2) for value in range(4)]  # slots of their own
        wait_until(lambda: len(batcher._pending) == 4)
        engine.gate.set()
        for future in waiting:
            future.result(timeout=10)
    assert batcher._idle_streams == 2


def wait_until(true):
    for _ in range(10_000):
        if true():
            return
        threading.Event().wait(0.001)
    raise AssertionError("never")


def test_answers_belong_to_their_rows_under_concurrency():
    engine = FakeEngine(streams=2, takes_s=0.0002)
    batcher = Batcher(engine, Statistics(1, 1).recorder(0, "m", 1))

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
    assert engine.most > 1


def test_no_more_parts_than_streams_start_together():
    engine = FakeEngine(streams=2)
    batcher = Batcher(engine, Statistics(1, 1).recorder(0, "m", 1))
    ask(batcher, 1, 8)
    assert engine.runs == [[(0, 4), (4, 4)]]


def test_a_failing_batch_fails_its_requests_and_no_others():
    engine = FakeEngine(streams=1)
    batcher = Batcher(engine, Statistics(1, 1).recorder(0, "m", 1))
    with pytest.raises(RuntimeError, match="negative"):
        ask(batcher, -1)
    assert (ask(batcher, 3) == 6).all()
    assert batcher._idle_streams == 1


def test_slots_do_not_multiply():
    engine = FakeEngine(streams=2)
    made = []
    original = engine.new_slot
    engine.new_slot = lambda: made.append(1) or original()
    batcher = Batcher(engine, Statistics(1, 1).recorder(0, "m", 1))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda value: ask(batcher, value, 5), range(300)))
    assert len(made) <= 6


@pytest.mark.parametrize(
    ("ranges", "sizes", "streams", "parts"),
    [
        ([(0, 1)], (1, 2, 4, 8), 1, [(0, 1)]),
        ([(0, 7)], (1, 2, 4, 8), 1, [(0, 4), (4, 2), (6, 1)]),
        ([(1, 3)], (1, 2, 4, 8), 1, [(1, 1), (2, 2)]),
        ([(2, 1), (0, 1)], (1, 2, 4), 1, [(0, 1), (2, 1)]),
        ([(3, 1), (2, 1), (0, 2)], (1, 2, 4), 1, [(0, 4)]),
        ([(0, 8)], (1, 2, 4, 8), 2, [(0, 4), (4, 4)]),
        ([(0, 3)], (1, 2, 4, 8), 2, [(0, 2), (2, 1)]),
        ([(0, 5)], (1,), 4, [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)]),
    ],
)
def test_split(ranges, sizes, streams, parts):
    assert split(ranges, sizes, streams) == parts
