"""A call that its client leaves is answered, run, counted and let go once, whoever is first."""

from __future__ import annotations

import gc
import threading

import pytest

from cpuserve.errors import QueueFull
from cpuserve.grpc.grpc_call import GrpcCall, MessageCall
from cpuserve.grpc.method import Task
from cpuserve.protocols.body_budget import BodyBudget, BodyShare
from cpuserve.protocols.call import Reply


def waiting(budget, ran, sent):
    share = BodyShare(budget)
    share.take(100)
    call = MessageCall("POST", "/", data=b"x" * 100)
    task = Task("/v2/models/m/infer", lambda _call: ran.append(1) or Reply(200, b"", []))
    return GrpcCall(call, task, None, share, sent.append)


@pytest.fixture
def parts():
    return BodyBudget(1 << 20), [], []


def test_it_is_run_and_answered(parts):
    budget, ran, sent = parts
    one = waiting(*parts)
    reply = one.call.handler(one.call)
    assert budget.held == 100
    one.answer(reply)
    assert (ran, sent, budget.held, one.abandon()) == ([1], [reply], 0, False)


def test_its_thread_is_timed_unless_that_is_not_wanted(parts):
    for timed in (True, False):
        one = waiting(*parts)
        one.timed = timed
        one.call.handler(one.call)
        assert (one.thread_s > 0) == timed


def test_for_a_client_that_left_while_it_waited_nothing_is_run(parts):
    budget, ran, sent = parts
    one = waiting(*parts)
    assert one.abandon()
    assert (budget.held, one.call.data) == (0, b"")
    one.answer(one.call.handler(one.call))
    assert (ran, sent, budget.held) == ([], [], 0)


def test_while_it_is_run_its_memory_stays_counted(parts):
    budget, _, sent = parts
    one = waiting(*parts)
    reply = one.call.handler(one.call)
    assert one.abandon()
    assert budget.held == 100
    one.answer(reply)
    assert (sent, budget.held) == ([], 0)


def test_a_refused_one_lets_its_memory_go(parts):
    budget, ran, sent = parts
    one = waiting(*parts)
    one.refuse(QueueFull("full", 1.0))
    assert (ran, budget.held, sent[0].refusal.grpc_code) == ([], 0, "UNAVAILABLE")
    one.refuse(QueueFull("full", 1.0))
    assert len(sent) == 1


def test_of_two_threads_one_lets_the_memory_go():
    for _ in range(200):
        parts = BodyBudget(1 << 20), [], []
        one = waiting(*parts)
        threads = [
            threading.Thread(target=one.abandon),
            threading.Thread(target=lambda one=one: one.answer(one.call.handler(one.call))),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert parts[0].held == 0


def test_an_answered_call_leaves_no_cycle_of_references(parts):
    one = waiting(*parts)
    gc.collect()
    gc.disable()
    try:
        one.answer(one.call.handler(one.call))
        del one
        assert not gc.collect()
    finally:
        gc.enable()
