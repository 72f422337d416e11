"""Ctrl-C and SIGTERM come where a run can be left, and nowhere else."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

import pytest

from cpuserve.video.held_interrupt import HeldInterrupt, hear_interrupt, heard, heard_result
from tests.interrupts import interruptible

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@SIGNALS
def test_it_comes_where_it_is_heard_and_not_before(number):
    done = []
    with interruptible(), pytest.raises(KeyboardInterrupt), HeldInterrupt() as interrupt:
        signal.raise_signal(number)
        done.append("held")
        hear_interrupt()
        done.append("heard")
    assert (done, interrupt.number) == (["held"], number)


@SIGNALS
def test_it_ends_a_wait(number):
    silent: SimpleQueue[None] = SimpleQueue()
    timer = threading.Timer(0.05, os.kill, [os.getpid(), number])
    with interruptible(), HeldInterrupt():
        timer.start()
        with pytest.raises(KeyboardInterrupt), heard():
            silent.get()
        hear_interrupt()  # it is raised once
    timer.join()


def test_it_ends_the_wait_for_a_future_and_leaves_its_lock_free():
    future: Future[int] = Future()
    with interruptible(), HeldInterrupt():
        timer = threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGINT])
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            heard_result(future)
    timer.join()
    future.set_result(3)
    assert heard_result(future) == 3
    with ThreadPoolExecutor(1) as threads, pytest.raises(ZeroDivisionError):
        heard_result(threads.submit(lambda: 1 // 0))


def test_a_second_one_does_not_end_what_follows_the_first():
    done = []
    with interruptible(), HeldInterrupt() as interrupt:
        with pytest.raises(KeyboardInterrupt), heard():
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                signal.raise_signal(signal.SIGINT)
                done.append("closed")
        interrupt.ignore()
        signal.raise_signal(signal.SIGINT)
        hear_interrupt()
    assert done == ["closed"]


def test_what_was_never_heard_comes_in_the_end_and_afterwards_all_is_as_before():
    with interruptible():
        with pytest.raises(KeyboardInterrupt), HeldInterrupt():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        with pytest.raises(KeyboardInterrupt), heard():
            signal.raise_signal(signal.SIGINT)


def test_within_another_one_that_one_stays_in_force():
    with interruptible(), HeldInterrupt() as outer:
        with HeldInterrupt() as inner:
            signal.raise_signal(signal.SIGINT)
        assert inner is outer is HeldInterrupt.in_force
        with pytest.raises(KeyboardInterrupt):
            hear_interrupt()


def test_where_it_is_ignored_it_stays_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with HeldInterrupt():
            signal.raise_signal(signal.SIGINT)
            hear_interrupt()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_changes_nothing():
    seen = []

    def run():
        with HeldInterrupt():
            seen.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]
