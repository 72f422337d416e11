"""The block: what workers count adds up, survives them, and never falls back."""

import os
import signal
import threading
import time
from types import SimpleNamespace

import pytest

from cpuserve.errors import CpuserveError
from cpuserve.serving.request import Request
from cpuserve.serving.statistics import BUCKETS_US, COUNTERS, SERVER, Statistics
from tests.forks import in_child


def answered(recorder, infer_us=1500):
    recorder.add("in_flight")
    request = Request()
    request.start()
    began = request._mark_ns  # however long ago it was started
    request.done("decode", began + 700_000)
    request.done("infer", began + 700_000 + infer_us * 1000)
    recorder.succeeded(request, 1)


def test_counters_of_several_workers_add_up_and_outlive_them():
    block = Statistics(rows=3)

    def work():
        recorder = block.recorder(block.claim(0), "m", 1)
        for _ in range(10):
            answered(recorder)
        recorder.executed([(0, 4), (4, 2)], 6000, released="gathered")
        recorder.add("in_flight")

    seen = []
    for _ in range(4):  # one after the other, in the same row
        in_child(work)
        totals = block.totals("m", 1)
        seen.append(totals["success"])
        assert totals["in_flight"] == 0  # what the dead worker had inside is inside no more
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
    block = Statistics(rows=2, models=2)
    block.claim(0)
    mine = block.recorder(0, "a", 1)
    assert block.served() == [("a", 1)]
    in_child(lambda: block.recorder(block.claim(1), "b", 12).add("success", 3))
    assert block.served() == [("a", 1), ("b", 12)]
    assert block.totals("b", 12)["success"] == 3
    mine.add("success")
    assert block.totals("a", 1)["success"] == 1


def test_a_version_that_was_never_served_has_zeros_and_takes_no_place():
    block = Statistics(rows=1)
    assert block.totals("a", 1)["success"] == 0
    assert block.served() == []


def test_any_number_of_versions_one_after_the_other():
    block = Statistics(rows=2, models=2)
    row = block.claim(0)
    kept = block.recorder(row, "kept", 1)
    block.settle(row)
    for version in range(1, 200):
        recorder = block.recorder(row, "m", version)
        answered(recorder)
        assert block.totals("m", version)["success"] == 1
        assert block.served() == [("kept", 1), ("m", version)]
        del recorder
    assert block.served() == [("kept", 1)]
    assert block.totals("m", 199)["success"] == 0
    del kept
    assert block.served() == []


def test_a_version_that_another_worker_still_has_keeps_its_counters():
    block = Statistics(rows=2)
    told_r, told_w = os.pipe()
    child = os.fork()
    if child == 0:
        recorder = block.recorder(block.claim(1), "m", 1)
        answered(recorder)
        os.write(told_w, b"x")
        time.sleep(600)
    os.read(told_r, 1)
    row = block.claim(0)
    mine = block.recorder(row, "m", 1)
    answered(mine)
    block.settle(row)
    del mine
    assert block.served() == [("m", 1)]
    assert block.totals("m", 1)["success"] == 2
    os.kill(child, 9)
    os.waitpid(child, 0)
    assert block.served() == []  # this worker knows what is served, and nobody else has it


def test_no_counter_falls_back_while_the_only_worker_is_replaced():
    block = Statistics(rows=1)

    def work():
        row = block.claim(0)
        recorder = block.recorder(row, "m", 1)
        answered(recorder)
        block.settle(row)
        os._exit(0)  # without collecting anything

    in_child(work)
    assert block.totals("m", 1)["success"] == 1
    in_child(work)
    assert block.totals("m", 1)["success"] == 2


def test_too_many_at_the_same_time_are_told_what_to_do():
    block = Statistics(rows=1, models=2)
    row = block.claim(0)
    block.settle(row)
    kept = [block.recorder(row, "m", version) for version in (1, 2)]
    with pytest.raises(CpuserveError, match=r"2 versions .* no place for m/3.*model_version_policy"):
        block.recorder(row, "m", 3)
    kept.pop()
    block.recorder(row, "m", 3)


def test_a_thousand_versions_at_the_same_time():
    block = Statistics(rows=1)
    kept = [block.recorder(0, "m" * 255, version) for version in range(1, 1025)]
    assert len(block.served()) == len(kept) == 1024


def test_the_gauges_of_a_worker_that_ended_fall():
    block = Statistics(rows=2)
    told_r, told_w = os.pipe()

    def work():
        row = block.claim(1)
        block.recorder(row, "m", 1).add("in_flight")
        server = block.recorder(row, SERVER, 0)
        server.put_count("queue_depth", SimpleNamespace(count=3))
        block.recorder(row, "m", 1).put("streams", 4)

        os.write(told_w, b"x")
        time.sleep(600)

    child = os.fork()
    if child == 0:
        work()
    try:
        os.read(told_r, 1)
        seen = block.totals("m", 1)
        assert (seen["in_flight"], seen["streams"], block.totals(SERVER, 0)["queue_depth"]) == (1, 4, 3)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    seen = block.totals("m", 1)
    assert (seen["in_flight"], seen["streams"], block.totals(SERVER, 0)["queue_depth"]) == (0, 0, 0)


def test_streams_are_those_of_one_worker_and_requests_those_of_all():
    block = Statistics(rows=2)
    recorders = [block.recorder(block.claim(row), "m", 1) for row in (0, 1)]
    for recorder in recorders:
        recorder.put("streams", 4)
        recorder.add("in_flight")
    assert (block.totals("m", 1)["streams"], block.totals("m", 1)["in_flight"]) == (4, 2)
    recorders[0].failed(Request())
    assert block.totals("m", 1)["in_flight"] == 1


def test_a_gauge_of_a_queues_length_is_right_whichever_thread_is_last():
    block = Statistics(rows=1)
    recorder = block.recorder(block.claim(0), SERVER, 0)
    queue, lock = SimpleNamespace(count=0), threading.Lock()

    def work():
        for _ in range(2000):
            for change in (1, -1):
                with lock:
                    queue.count += change
                recorder.put_count("queue_depth", queue)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert block.totals(SERVER, 0)["queue_depth"] == 0


def test_living_workers_are_known():
    block = Statistics(rows=2)
    block.claim(1)
    assert block.workers() == [os.getpid()]
    in_child(lambda: block.claim(0))
    assert block.workers() == [os.getpid()]


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
    recorder.add("in_flight")
    request.done("queue", request.started_ns + microseconds * 1000)
    recorder.succeeded(request, 1)
    buckets = block.totals("m", 1).buckets("queue")
    assert buckets.index(1) == bucket
    assert len(buckets) == len(BUCKETS_US) + 1


def test_failures_are_counted_apart():
    block = Statistics(rows=1)
    recorder = block.recorder(0, "m", 1)
    recorder.add("in_flight")
    recorder.failed(Request())
    totals = block.totals("m", 1)
    assert totals["in_flight"] == 0
    assert (totals["fail"], totals["success"], totals["fail_request_count"]) == (1, 0, 1)


def test_what_a_worker_lets_go_of_leaves_though_it_counts_nothing_more():
    """A worker that nobody asks for metrics gives its places back at its next tick."""
    block = Statistics(rows=2)
    ready_r, ready_w = os.pipe()
    go_r, go_w = os.pipe()
    child = os.fork()
    if child == 0:
        row = block.claim(1)
        recorder = block.recorder(row, "m", 1)
        block.settle(row)
        os.write(ready_w, b"x")
        os.read(go_r, 1)
        del recorder
        block.tick()
        os.write(ready_w, b"x")
        time.sleep(600)
    os.read(ready_r, 1)
    block.settle(block.claim(0))
    assert block.served() == [("m", 1)]
    os.write(go_w, b"x")
    os.read(ready_r, 1)
    assert block.served() == []
    os.kill(child, 9)
    os.waitpid(child, 0)


def test_a_tick_waits_for_no_worker_that_is_stopped_while_it_writes():
    block = Statistics(rows=2)
    row = block.claim(0)
    recorder = block.recorder(row, "m", 1)
    block.settle(row)
    child = os.fork()
    if child == 0:
        with block._block.lock:
            os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.waitpid(child, os.WUNTRACED)
    del recorder
    ticking = threading.Thread(target=block.tick, daemon=True)
    ticking.start()
    ticking.join(60)
    waited = ticking.is_alive()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not waited
    block.tick()
    assert block._find("m", 1) is None
