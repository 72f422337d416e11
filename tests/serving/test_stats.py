"""The block: what workers count adds up, survives them, and never falls back."""

import os
import threading
import time

import pytest

from cpuserve.errors import CpuserveError
from cpuserve.serving.request import Request
from cpuserve.serving.stats import BUCKETS_US, COUNTERS, Statistics


def in_child(work):
    """Run ``work`` in a forked process, as a worker is."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def answered(recorder, infer_us=1500):
    recorder.entered()
    request = Request()
    request.start()
    request.done("decode", request.started_ns + 700_000)
    request.done("infer", request.started_ns + 700_000 + infer_us * 1000)
    recorder.succeeded(request, 1)


def test_counters_of_several_workers_add_up_and_outlive_them():
    block = Statistics(rows=3)

    def work():
        recorder = block.recorder(block.claim(0), "m", 1)
        for _ in range(10):
            answered(recorder)
        recorder.executed([4, 2], 6000, released="gathered")
        recorder.entered()

    seen = []
    for _ in range(4):  # one after the other, in the same row
        in_child(work)
        totals = block.totals("m", 1)
        seen.append(totals["success"])
        assert totals["in_flight"] == 1  # the dead worker's, until the row is claimed again
    assert seen == [10, 20, 30, 40]
    totals = block.totals("m", 1)
    assert (totals["images"], totals["executions"], totals["released_gathered"]) == (40, 8, 4)
    assert totals.batches() == {2: (4, 8000), 4: (4, 16000)}
    assert totals.duration("infer") == (40, 40 * 1_500_000)
    assert sum(totals.buckets("infer")) == 40
    assert totals.buckets("infer")[BUCKETS_US.index(1983)] == 40
    assert abs(totals["last_inference_ms"] / 1000 - time.time()) < 60
    assert set(totals.counters()) == set(COUNTERS)
    block.claim(0)
    assert block.totals("m", 1)["in_flight"] == 0


def test_a_living_workers_row_is_never_given_away():
    block = Statistics(rows=2)
    assert block.claim(1) == 1
    taken = []

    def work():
        assert block.claim(1) == 0
        with pytest.raises(CpuserveError, match="2 rows"):
            block.claim(1)

    in_child(work)
    taken.append(block.claim(1))  # the child's row is free again, our own is not
    assert taken == [0]


def test_models_keep_their_places_in_every_process():
    block = Statistics(rows=1, models=2)
    assert block.model("a", 1) == 0
    in_child(lambda: block.model("b", 12))
    assert block.model("b", 12) == 1
    assert block.served() == [("a", 1), ("b", 12)]
    with pytest.raises(CpuserveError, match="c/1"):
        block.model("c", 1)


def test_threads_lose_no_count():
    block = Statistics(rows=1)
    recorder = block.recorder(block.claim(0), "m", 1)
    threads = [threading.Thread(target=lambda: [answered(recorder) for _ in range(500)]) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    totals = block.totals("m", 1)
    assert totals["success"] == sum(totals.buckets("request")) == 3000


@pytest.mark.parametrize(("microseconds", "bucket"), [(0, 0), (10, 0), (11, 1), (7434771, 23), (10**9, 24)])
def test_a_bucket_holds_what_is_at_most_its_end(microseconds, bucket):
    block = Statistics(rows=1)
    recorder = block.recorder(0, "m", 1)
    request = Request()
    recorder.entered()
    request.done("queue", request.started_ns + microseconds * 1000)
    recorder.succeeded(request, 1)
    buckets = block.totals("m", 1).buckets("queue")
    assert buckets.index(1) == bucket
    assert len(buckets) == len(BUCKETS_US) + 1


def test_failures_are_counted_apart():
    block = Statistics(rows=1)
    recorder = block.recorder(0, "m", 1)
    recorder.entered()
    recorder.failed(Request())
    totals = block.totals("m", 1)
    assert totals["in_flight"] == 0
    assert (totals["fail"], totals["success"], totals["fail_request_count"]) == (1, 0, 1)
