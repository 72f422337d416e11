"""Brief calls are run by the thread that has read them."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from cpuserve.grpc.brief_calls import BriefCalls
from cpuserve.grpc.brief_paths import BriefPaths
from tests.grpc.running import ask, serving_grpc
from tests.grpc.test_server import tensors
from tests.protocols.fakes import Pipeline, Pool


def known(seconds):
    paths = BriefPaths()
    paths.learn("/a", seconds)
    return paths


def call(path="/a"):
    one = SimpleNamespace(call=SimpleNamespace(path=path), done=None)
    one.when_done = lambda then: setattr(one, "done", then)
    return one


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_some_of_those_that_are_run_here_are_timed_whatever_the_order_of_their_paths(count):
    ran, paths = [], BriefPaths()
    names = [f"/{number}" for number in range(count)]
    for name in names:
        paths.learn(name, 1e-4)
    calls = BriefCalls(paths, ran.append, nobody, 1)
    for number in range(2000):
        assert calls.take(call(names[number % count]), 100)
        while calls.kept:
            calls.run_next()
    timed = [one.call.path for one in ran if one.timed]
    assert 300 < len(timed) < 700  # one in four, by chance
    assert {*timed} == {*names}


def nobody(_call, *, wake):
    raise AssertionError("there is no other thread")


def calls_of(seconds, run, submit=nobody, threads=1):
    return BriefCalls(known(seconds), run, submit, threads)


def busy(seconds, run):
    """What keeps calls by now, since it has run some at once."""
    calls = calls_of(seconds, run)
    assert all(calls.take(call(), 100) for _ in range(8))
    assert not calls.kept
    return calls


def test_after_some_that_are_run_at_once_calls_are_kept_until_others_were_read():
    ran = []
    calls = calls_of(1e-4, ran.append)
    sent = [call() for _ in range(11)]
    assert all(calls.take(one, 100) for one in sent)
    assert (ran, calls.kept) == (sent[:8], 3)
    while calls.kept:
        calls.run_next()
    assert ran == sent
    calls.take(call(), 100)
    assert len(ran) == 12  # at once again


def test_what_is_beyond_a_few_milliseconds_is_not_kept():
    calls = busy(1e-3, lambda _call: None)
    assert [calls.take(call(), 100) for _ in range(4)] == [True, True, True, False]
    calls.run_next()
    assert calls.take(call(), 100)
    assert not calls.take(call(), 100)


def test_what_is_not_brief_is_not_taken():
    calls = calls_of(2e-3, lambda _call: None)
    assert not calls.take(call(), 100)
    assert not calls.take(call("/unknown"), 100)
    assert not calls.kept


def test_a_call_that_fails_is_not_run_again():
    def run(_call):
        if failing:
            raise ValueError("of the handler")

    failing = []
    calls = busy(1e-3, run)
    calls.take(call(), 100)
    failing.append(True)
    with pytest.raises(ValueError, match="of the handler"):
        calls.run_next()
    assert not calls.kept


def test_other_threads_are_given_calls_so_that_none_sleeps_between_two():
    given, ran = [], []
    calls = calls_of(1e-3, ran.append, lambda one, *, wake: given.append((one, wake)), threads=3)
    sent = [call() for _ in range(6)]
    assert all(calls.take(one, 100) for one in sent)
    assert given == [(sent[0], True), (sent[1], True), (sent[2], False), (sent[3], False)]
    assert ran == sent[4:]
    sent[2].done()
    calls.take(another := call(), 100)
    assert given[-1] == (another, False)
    for one in (*sent[:2], sent[3]):
        one.done()
    calls.take(another := call(), 100)
    assert given[-1] == (another, True)  # of two threads one has nothing to do


def test_a_large_message_is_run_while_it_is_in_the_caches():
    ran = []
    calls = calls_of(4e-4, ran.append, threads=3)
    sent = [call() for _ in range(20)]
    assert all(calls.take(one, 1 << 20) for one in sent)
    assert ran == sent


def test_large_messages_of_calls_that_compute_use_all_threads_too():
    given, ran = [], []
    calls = calls_of(1e-3, ran.append, lambda one, *, wake: given.append((one, wake)), threads=3)
    sent = [call() for _ in range(6)]
    assert all(calls.take(one, 1 << 20) for one in sent)
    assert ([one for one, _ in given], ran) == (sent[:4], sent[4:])
    calls = calls_of(1e-3, ran.append, threads=3)
    for bytes_ in ((5 << 20, 0), (300, 5 << 20)):  # of a message, and in shared memory
        assert calls.take(copied := call(), *bytes_)  # given to nobody
        assert ran[-1] is copied


def test_calls_that_are_all_python_are_given_to_nobody():
    ran = []
    calls = calls_of(1e-4, ran.append, threads=3)
    assert all(calls.take(call(), 100) for _ in range(5))
    assert len(ran) == 5


def _threads_of(monkeypatch, seconds, count=5, **how):
    """The names of the threads that ran requests which compute for so long."""
    ran = []
    whole = Pipeline.infer

    def infer(self, found, request):
        ran.append(threading.current_thread().name)
        answer = whole(self, found, request)
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass
        return answer

    monkeypatch.setattr(Pipeline, "infer", infer)
    with serving_grpc(Pool(), **how) as one:
        for _ in range(count):
            assert ask(one.address, "ModelInfer", tensors().SerializeToString())
    return ran


@pytest.mark.parametrize(("seconds", "thread"), [(0, "grpc"), (1e-2, "serve-0")])
def test_who_runs_a_request(monkeypatch, seconds, thread):
    ran = _threads_of(monkeypatch, seconds)
    assert ran[0] == "serve-0"  # nothing is known of it yet
    assert thread in ran[1:]
    assert set(ran[1:]) <= {thread, "serve-0"}


def test_of_calls_that_are_not_timed_nothing_is_learned(monkeypatch):
    learned = []
    learn = BriefPaths.learn
    monkeypatch.setattr(BriefPaths, "learn", lambda *given: (learned.append(given[2]), learn(*given)))
    _threads_of(monkeypatch, 0, count=200)
    assert 0 < len(learned) < 120
    assert min(learned) > 0


def test_requests_that_gather_are_run_by_threads_that_can_wait_for_each_other(monkeypatch):
    monkeypatch.setattr(Pipeline.batcher, "gathers", True)
    assert set(_threads_of(monkeypatch, 0)) == {"serve-0"}


@pytest.mark.parametrize("threads", [1, 3])
def test_many_brief_requests_at_a_time_are_all_answered(threads, monkeypatch):
    whole = Pipeline.infer
    monkeypatch.setattr(Pipeline, "infer", lambda *given: (time.sleep(1e-3), whole(*given))[1])
    message = tensors().SerializeToString()
    with serving_grpc(Pool(), threads=threads) as one, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(one.address, "ModelInfer", message)[0], range(200)))
        assert one.codes == ["OK"] * 200
    assert len(set(answers)) == 1
