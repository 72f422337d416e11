"""A thread's slice, as the kernel tells."""

from __future__ import annotations

import os
import platform
import re
import threading
from pathlib import Path

import pytest

from cpuserve.machine.slice import shorten_slice


def in_a_thread(nice: int) -> tuple[bool, int, str]:
    found: list[tuple[bool, int, str]] = []

    def run() -> None:
        taken = shorten_slice(0.0001, nice)
        me = threading.get_native_id()
        facts = Path(f"/proc/self/task/{me}/sched")
        text = facts.read_text() if facts.exists() else ""
        found.append((taken, os.getpriority(os.PRIO_PROCESS, me), text))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no system call number known")
def test_the_calling_thread_alone_gets_a_slice_and_a_nice_value() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    taken, nice, facts = in_a_thread(before + 1)
    assert taken
    assert nice == before + 1
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
    said = re.search(r"se\.slice\s*:\s*(\d+)", facts)
    if said and tuple(map(int, platform.release().split(".")[:2])) >= (6, 12):
        assert int(said[1]) == 100_000


def test_what_the_kernel_refuses_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "pdp11")
    assert shorten_slice(0.0001, 5) is False
