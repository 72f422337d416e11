"""Samples from /proc what the kernel's scheduler does with every thread of a server."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cpuserve.machine.files import read_text
from cpuserve.profiling.recording import ThreadTrack
from cpuserve.serving.stages import THREAD_ROLES

__all__ = ["ThreadSampler"]

_HZ = 50.0
_RESCAN_S = 1.0
_SWITCHES = ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass
class _Thread:
    """A thread that is watched.

    Attributes:
        pid: of its process.
        tid: its number.
        name: as the kernel shows it.
        files: descriptors of schedstat and stat, kept open: opening costs more than reading.
        before: voluntary and involuntary switches, and nanoseconds in the kernel, when first seen.
        after: the same when last seen.
        samples: as of `ThreadTrack`.
    """

    pid: int
    tid: int
    name: str
    files: tuple[int, int]
    before: tuple[int, int, int]
    after: tuple[int, int, int] = (0, 0, 0)
    samples: list[tuple[int, int, int, int]] = field(default_factory=list)


class ThreadSampler:
    """Watches the threads of some processes from `start` to `stop`.

    ``/proc/PID/task/TID/schedstat`` has the time on a CPU and the time runnable without one, to the
    nanosecond; a thread that runs on brings it up to date at the kernel's tick only.

    Args:
        processes: gives the ids of the processes there are now.
        root: where /proc is.
    """

    def __init__(self, processes: Callable[[], Iterable[int]], root: Path = Path("/")) -> None:
        self._processes = processes
        self._proc = root / "proc"
        self._threads: dict[int, _Thread] = {}
        self._gone: list[_Thread] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)

    def start(self) -> None:
        """Start to sample."""
        self._scan()
        self._look()
        self._thread.start()

    def stop(self) -> None:
        """Stop; `tracks` has the samples then."""
        self._ending.set()
        self._thread.join()
        self._look()
        for thread in self._threads.values():
            thread.after = self._counters(thread.pid, thread.tid) or thread.after
            # a thread names itself some time after it began
            thread.name = read_text(self._proc / f"{thread.pid}/task/{thread.tid}/comm") or thread.name
            _close(thread)

    def tracks(self, serving: Iterable[int], arbiter: int) -> list[ThreadTrack]:
        """All threads that were seen.

        Args:
            serving: threads that are known to have run requests.
            arbiter: the process that serves nothing.
        """
        serving = set(serving)
        found = [*self._gone, *self._threads.values()]
        first: dict[tuple[int, str], int] = {}
        for thread in sorted(found, key=lambda one: one.tid):
            first.setdefault((thread.pid, thread.name), thread.tid)
        return [
            ThreadTrack(
                pid=thread.pid,
                tid=thread.tid,
                name=thread.name,
                role=_role(thread, serving, arbiter, inherited=first[thread.pid, thread.name] != thread.tid),
                samples=thread.samples,
                voluntary=max(0, thread.after[0] - thread.before[0]),
                involuntary=max(0, thread.after[1] - thread.before[1]),
                migrations=sum(
                    a[3] != b[3] for a, b in zip(thread.samples, thread.samples[1:], strict=False)
                ),
                kernel_ns=max(0, thread.after[2] - thread.before[2]),
            )
            for thread in found
        ]

    def _run(self) -> None:
        scanned = time.monotonic()
        while not self._ending.wait(1 / _HZ):
            if time.monotonic() - scanned > _RESCAN_S:
                scanned = time.monotonic()
                self._scan()
            self._look()

    def _scan(self) -> None:
        """Find threads that are new."""
        for pid in self._processes():
            with suppress(OSError):  # it has just ended
                for entry in (self._proc / f"{pid}/task").iterdir():
                    if int(entry.name) not in self._threads:
                        self._add(pid, int(entry.name), entry)

    def _add(self, pid: int, tid: int, folder: Path) -> None:
        counters = self._counters(pid, tid)
        if counters is None:
            return
        opened: list[int] = []
        try:
            for name in ("schedstat", "stat"):
                opened.append(os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            for descriptor in opened:
                os.close(descriptor)
            return
        name = read_text(folder / "comm") or "?"
        self._threads[tid] = _Thread(pid, tid, name, (opened[0], opened[1]), counters, counters)

    def _look(self) -> None:
        for thread in list(self._threads.values()):
            try:
                words = os.pread(thread.files[0], 64, 0).split()
                now, cpu, wait = time.perf_counter_ns(), int(words[0]), int(words[1])
                samples = thread.samples
                if samples and samples[-1][1:3] == (cpu, wait):
                    last = samples[-1][3]  # it has not run: the CPU is the same
                else:
                    last = int(os.pread(thread.files[1], 1024, 0).rpartition(b")")[2].split()[36])
            except (OSError, IndexError):
                self._end(thread)
                continue
            samples.append((now, cpu, wait, last))

    def _end(self, thread: _Thread) -> None:
        del self._threads[thread.tid]
        self._gone.append(thread)
        _close(thread)

    def _counters(self, pid: int, tid: int) -> tuple[int, int, int] | None:
        folder = self._proc / f"{pid}/task/{tid}"
        status, stat = read_text(folder / "status"), read_text(folder / "stat")
        if not status or not stat:
            return None
        switches = [re.search(rf"^{name}:\s*(\d+)", status, re.MULTILINE) for name in _SWITCHES]
        voluntary, involuntary = (int(one[1]) if one else 0 for one in switches)
        return voluntary, involuntary, int(stat.rpartition(")")[2].split()[12]) * _TICK_NS


def _close(thread: _Thread) -> None:
    for descriptor in thread.files:
        os.close(descriptor)


def _role(thread: _Thread, serving: set[int], arbiter: int, *, inherited: bool) -> str:
    """What a thread is for: a thread of C code has the name of the Python thread that started it."""
    if thread.pid == arbiter:
        return "arbiter"
    if thread.tid in serving:
        return "serve"
    if thread.tid == thread.pid:
        return "accept"
    for known in THREAD_ROLES:
        if thread.name.startswith(known.prefix):
            return "openvino" if known.infers and inherited else known.role
    return "other"
