"""Ctrl-C comes after a block that holds it back, and at once elsewhere."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from cpuserve.video.held_interrupt import HeldInterrupt
from tests.interrupts import interruptible


def strike():
    os.kill(os.getpid(), signal.SIGINT)


def test_a_block_is_done_whole():
    done = []
    with interruptible(), HeldInterrupt() as interrupt, pytest.raises(KeyboardInterrupt):
        with interrupt.held():
            strike()
            done.append("whole")
        done.append("behind")
    assert done == ["whole"]


def test_elsewhere_it_comes_at_once_and_afterwards_as_before():
    with interruptible():
        with HeldInterrupt() as interrupt:
            with interrupt.held():
                pass
            with pytest.raises(KeyboardInterrupt):
                strike()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_where_it_is_ignored_it_stays_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with HeldInterrupt() as interrupt, interrupt.held():
            strike()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_changes_nothing():
    seen = []

    def run():
        with HeldInterrupt() as interrupt, interrupt.held():
            seen.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]
