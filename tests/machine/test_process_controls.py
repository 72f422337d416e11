"""Malloc, priority, names and signals of this process, and children that die with it."""

from __future__ import annotations

import os
import platform
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from cpuserve.machine.process_controls import (
    block_signals,
    die_with_parent,
    set_time_slice,
    show_thread_name,
)

T = TypeVar("T")

MEMORY = """
import sys
from pathlib import Path
from cpuserve.machine.process_controls import malloc_settings

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

if sys.argv[1] == "set" and not malloc_settings():
    sys.exit(77)
del_me = bytearray(b"x") * (31 << 20)
del del_me  # from here on glibc by itself keeps such buffers in its heap
before = resident()
large = bytearray(b"x") * (30 << 20)
pins = [bytes(1000) for _ in range(200)]  # small blocks in use behind it
del large
print(resident() - before)
"""

PARENT = """
import subprocess, sys
from cpuserve.machine.process_controls import die_with_parent
code = "import time; print('on', flush=True); time.sleep(600)"
subprocess.run(die_with_parent(sys.executable, "-c", code))
"""

BLOCKED = "import signal; print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))"


def in_thread(work: Callable[[], T], name: str | None = None) -> T:
    found: list[T] = []
    thread = threading.Thread(target=lambda: found.append(work()), name=name)
    thread.start()
    thread.join()
    return found[0]


def grown(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", MEMORY, how], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("the C library is not glibc")
    return int(done.stdout)


def test_a_large_buffer_returns_to_the_kernel_when_it_is_freed():
    assert grown("set") < 4 << 20
    assert grown("unset") > 25 << 20  # else the setting would change nothing


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no system call number known")
def test_the_calling_thread_alone_gets_a_slice_and_a_nice_value():
    before = os.getpriority(os.PRIO_PROCESS, 0)

    def change() -> tuple[bool, int, str]:
        taken = set_time_slice(0.0001, before + 1)
        me = threading.get_native_id()
        facts = Path(f"/proc/self/task/{me}/sched")
        return taken, os.getpriority(os.PRIO_PROCESS, me), facts.read_text() if facts.exists() else ""

    taken, nice, facts = in_thread(change)
    assert taken
    assert nice == before + 1
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
    found = re.search(r"se\.slice\s*:\s*(\d+)", facts)
    if found and tuple(map(int, platform.release().split(".")[:2])) >= (6, 12):
        assert int(found[1]) == 100_000


def test_an_unknown_machine_gets_no_slice(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "pdp11")
    assert set_time_slice(0.0001, 5) is False


def test_the_kernel_shows_the_first_15_characters_of_a_threads_name():
    def shown() -> str:
        show_thread_name()
        return Path(f"/proc/self/task/{threading.get_native_id()}/comm").read_text()

    assert in_thread(shown, "a-name-that-is-too-long") == "a-name-that-is-\n"


def test_a_thread_and_those_it_starts_block_a_servers_signals():
    def blocked() -> set[int]:
        return set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))

    def here() -> set[int]:
        block_signals()
        return blocked()

    def started_there() -> set[int]:
        block_signals()
        return in_thread(blocked)

    for found in (in_thread(here), in_thread(started_there)):
        assert {signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP} <= found
        assert signal.SIGSEGV not in found
        assert signal.SIGALRM not in found
    assert not blocked()


def test_a_child_started_by_a_thread_without_signals_gets_them():
    def start() -> str:
        block_signals()
        command = die_with_parent(sys.executable, "-c", BLOCKED)
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert in_thread(start) == "[]\n"


def test_a_child_dies_with_a_parent_that_is_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"on\n"
        os.kill(parent.pid, signal.SIGKILL)
        readable, _, _ = select.select([parent.stdout], [], [], 30)
        assert readable, "the child still has its end of the pipe"
        assert parent.stdout.read() == b""


def test_the_exit_code_and_output_are_the_commands():
    words = die_with_parent(sys.executable, "-c", "print(3); exit(4)")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (4, "3\n")


def test_nothing_starts_for_a_parent_that_is_gone():
    words = die_with_parent("true")
    words[3] = "1"
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "has ended" in done.stderr
