"""The lock excludes threads of all processes, is free after its holder's death, and never refuses a wait."""

from __future__ import annotations

import mmap
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from cpuserve.sharedmem import process_lock
from cpuserve.sharedmem.process_lock import ProcessLock
from tests.conftest import ROOT
from tests.forks import child

DEADLINE_S = 120


def ended(pid):
    """The exit code of a child that ends by itself, or a failure when it hangs."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError(f"process {pid} hangs")


def test_no_count_is_lost_by_threads_of_processes_of_which_some_are_killed():
    """Each worker tells in its own word how far it is, inside the lock, after it has added to the sum.

    A process that is killed between the two has added at most one that it did not tell.
    """
    processes, threads, rounds, killed = 5, 4, 300, 12
    lock = ProcessLock("test")
    words = memoryview(mmap.mmap(-1, 8 * (1 + (processes + killed) * threads))).cast("Q")

    def work(number):
        def count(mine):
            for _ in range(rounds):
                with lock:
                    before = words[0]
                    if mine % 7 == 0:
                        time.sleep(0)  # another thread's turn, between reading and writing
                    words[0] = before + 1
                    words[mine] += 1

        of_mine = [
            threading.Thread(target=count, args=(1 + number * threads + thread,)) for thread in range(threads)
        ]
        for thread in of_mine:
            thread.start()
        for thread in of_mine:
            thread.join()

    chance = random.Random(13)  # noqa: S311  # no secret
    running = [child(lambda number=number: work(number)) for number in range(processes)]
    murdered = 0
    for number in range(processes, processes + killed):
        victim = child(lambda number=number: work(number))
        base = 1 + number * threads
        deadline = time.monotonic() + DEADLINE_S
        while sum(words[base : base + threads]) < chance.randrange(1, 40):
            assert time.monotonic() < deadline, "nobody gets the lock"
        os.kill(victim, signal.SIGKILL)
        murdered += os.waitstatus_to_exitcode(os.waitpid(victim, 0)[1]) == -signal.SIGKILL
    assert [ended(pid) for pid in running] == [0] * processes
    told = sum(words[1:])
    assert told <= words[0] <= told + murdered
    assert sum(words[1 : 1 + processes * threads]) == processes * threads * rounds
    assert murdered


def test_waiting_crosswise_is_no_deadlock():
    """A thread here waits for a lock of another process, one there for a lock of this one: both end."""
    first, second = ProcessLock("first"), ProcessLock("second")
    took, told = os.pipe()
    free, freed = os.pipe()

    def other():
        with second:
            os.write(told, b"x")
            waiter = threading.Thread(target=first.__enter__, daemon=True)
            waiter.start()
            os.read(free, 1)

    with first:
        pid = child(other)
        os.read(took, 1)
        failed = []

        def wait():
            try:
                with second:
                    pass
            except OSError as error:
                failed.append(error)

        threads = [threading.Thread(target=wait) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.1)  # now each side waits for the other's; lockf gives EDEADLK here
        os.write(freed, b"x")
        for thread in threads:
            thread.join(DEADLINE_S)
    assert ended(pid) == 0
    assert failed == []
    assert not any(thread.is_alive() for thread in threads)


def test_the_holders_death_frees_it():
    lock = ProcessLock("test")
    took, told = os.pipe()

    def hold():
        lock.__enter__()
        os.write(told, b"x")
        time.sleep(DEADLINE_S)

    holder = child(hold)
    os.read(took, 1)
    inside = threading.Event()

    def enter():
        with lock:
            inside.set()

    threading.Thread(target=enter, daemon=True).start()
    assert not inside.wait(0.2)
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    assert inside.wait(DEADLINE_S)


def test_a_refusal_of_the_kernel_leaves_nothing_held(monkeypatch):
    lock = ProcessLock("test")
    real = process_lock.fcntl.fcntl

    def refuse(descriptor, command, argument):
        if command == process_lock.fcntl.F_OFD_SETLKW:
            raise OSError(37, "No locks available")
        return real(descriptor, command, argument)

    with monkeypatch.context() as patch:
        patch.setattr(process_lock.fcntl, "fcntl", refuse)
        with pytest.raises(OSError, match="No locks"):
            lock.__enter__()
    entered = threading.Thread(target=lock.__enter__, daemon=True)
    entered.start()
    entered.join(DEADLINE_S)
    assert not entered.is_alive()


ALARM = """
import os, signal, time
from cpuserve.sharedmem.process_lock import ProcessLock
from tests.conftest import ROOT
from tests.forks import child

class Alarm(Exception):
    pass

def handler(_number, _frame):
    raise Alarm

def hold():
    with lock:
        os.write(told, b"x")
        time.sleep(1)

lock = ProcessLock("test")
took, told = os.pipe()
holder = child(hold)
os.read(took, 1)
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.1)
try:
    lock.__enter__()
except Alarm:
    print("alarm")
with lock:
    print("inside")
assert os.waitpid(holder, 0)[1] == 0
"""


def test_a_handler_that_raises_while_it_waits_leaves_nothing_held():
    # In an interpreter of its own: pytest handles signals on a small stack, on which the kernel has no room
    # for the registers of a thread that has computed with AMX before.
    done = subprocess.run(
        [sys.executable, "-c", ALARM], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "alarm\ninside\n"), done.stderr


def test_a_process_forked_while_a_thread_is_inside_can_use_it_and_frees_nothing():
    lock = ProcessLock("test")
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with lock:
            inside.set()
            leave.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait()

    def use():
        with lock:
            assert left_r  # after the parent's thread has left

    left_r, left_w = os.pipe()
    pid = child(use)
    time.sleep(0.1)
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    leave.set()
    holder.join()
    assert ended(pid) == 0
    os.close(left_r), os.close(left_w)


def test_a_process_forked_inside_leaves_without_freeing_the_parents():
    lock = ProcessLock("test")
    with lock:
        pid = os.fork()
        if pid == 0:
            with suppress(BaseException):
                lock.__exit__(None, None, None)
                os._exit(0)
            os._exit(1)
        assert ended(pid) == 0
        tried = child(lock.__enter__)
        time.sleep(0.1)
        assert os.waitpid(tried, os.WNOHANG) == (0, 0)
    assert ended(tried) == 0


def test_entering_twice_says_so_instead_of_hanging():
    lock = ProcessLock("test")
    with lock, pytest.raises(RuntimeError, match="already"):
        lock.__enter__()
    with lock:
        pass


def test_it_keeps_no_file_open_after_it_is_gone():
    def open_files():
        return sum("gone-lock" in os.path.realpath(file) for file in Path("/proc/self/fd").iterdir())

    for _ in range(20):
        lock = ProcessLock("gone-lock")
        with lock:
            assert open_files() == 2  # what came with the lock, and what this process opened
        del lock
    assert open_files() == 0


def test_who_does_not_wait_is_told_whether_somebody_is_inside():
    lock = ProcessLock("test")
    inside_r, inside_w = os.pipe()
    leave_r, leave_w = os.pipe()

    def work():
        with lock:
            os.write(inside_w, b"x")
            os.read(leave_r, 1)

    other = child(work)
    os.read(inside_r, 1)
    with lock.at_once() as entered:
        assert not entered
    os.write(leave_w, b"x")
    assert ended(other) == 0
    with lock.at_once() as entered:
        assert entered
        seen = []

        def look():
            with lock.at_once() as also:
                seen.append(also)

        thread = threading.Thread(target=look)
        thread.start()
        thread.join(DEADLINE_S)
        assert seen == [False]
        assert ended(child(lambda: _expect_taken(lock))) == 0
        with pytest.raises(RuntimeError, match="holds the lock already"), lock.at_once():
            pass
    with lock:
        pass


def _expect_taken(lock):
    with lock.at_once() as entered:
        assert not entered
