"""Processes compared with their seats: written /proc trees, and real processes in the wrong place."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cpuserve.machine.placement import Seat
from cpuserve.machine.process import Process
from cpuserve.machine.seat_checks import SeatReport, check_seats
from tests.machine.trees import Tree

HERE = tuple(sorted(os.sched_getaffinity(0)))
FIRST, SECOND = Seat(0, 0, (0, 1, 2, 3), 4, 0), Seat(1, 1, (4, 5, 6, 7), 4, 1)
MIB_PAGES = 256


def process(
    tree: Tree, pid: int, masks: list[str], *, pages: str | None = "", environ: str = "", name: str = "python"
) -> None:
    """A process whose threads have ``masks``, the main thread first."""
    for offset, mask in enumerate(masks):
        task = f"proc/{pid}/task/{pid + offset}"
        tree.put(f"{task}/status", f"Name:\t{name}\nCpus_allowed:\tf\nCpus_allowed_list:\t{mask}")
        cpu = 4 + offset
        tree.put(f"{task}/stat", f"{pid + offset} ({name} (a) b) S " + " ".join(["0"] * 35) + f" {cpu} 0 0")
    if pages is not None:
        tree.put(f"proc/{pid}/numa_maps", pages)
    tree.put(f"proc/{pid}/environ", environ)


def heap(**nodes: int) -> str:
    counts = " ".join(f"{node}={mebibytes * MIB_PAGES}" for node, mebibytes in nodes.items())
    return f"55d0 prefer:0 heap anon=9 dirty=9 active=0 {counts} kernelpagesize_kB=4"


def levels(report: SeatReport) -> list[str]:
    return [finding.level for finding in report.findings]


def red(report: SeatReport) -> str:
    assert report.level == "red"
    (finding,) = [finding for finding in report.findings if finding.level == "red"]
    assert finding.advice
    return finding.text


def test_all_as_planned(tmp_path):
    tree = Tree(tmp_path)
    process(tree, 100, ["0-3", "0", "1", "2", "3"], pages=heap(N0=95, N1=5))
    process(tree, 200, ["4-7"] * 9, pages=heap(N0=10, N1=90))
    report = check_seats({SECOND: 200, FIRST: 100}, tmp_path)
    assert report.level == "green"
    assert [finding.text for finding in report.findings] == [
        "seat 0 (pid 100): all 5 threads stay on CPUs 0-3",
        "seat 0 (pid 100): 95.0% of 100 MiB anonymous memory is on node 0",
        "seat 1 (pid 200): all 9 threads stay on CPUs 4-7",
        "seat 1 (pid 200): 90.0% of 100 MiB anonymous memory is on node 1",
    ]
    first = report.seated[0].process
    assert first is not None
    assert [(t.tid, t.allowed, t.last_cpu) for t in first.threads][:2] == [
        (100, (0, 1, 2, 3), 4),
        (101, (0,), 5),
    ]


def test_threads_that_may_leave(tmp_path):
    process(Tree(tmp_path), 100, ["0-3", "0-7", "0-3", "6"], pages=heap(N0=50), name="blas")
    text = red(check_seats({FIRST: 100}, tmp_path))
    assert "2 of 4 threads may leave CPUs 0-3 (they may run on 0-7): blas (101), blas (103)" in text


def test_two_workers_on_the_same_cpus(tmp_path):
    tree = Tree(tmp_path)
    process(tree, 100, ["0-3"])
    process(tree, 200, ["2-7"])
    report = check_seats({FIRST: 100, SECOND: 200}, tmp_path)
    texts = [finding.text for finding in report.findings if finding.level == "red"]
    assert texts[-1] == "CPUs 2-3 are shared by seats 0 (pid 100), 1 (pid 200)"


def test_a_plan_that_overlaps_by_itself(tmp_path):
    tree = Tree(tmp_path)
    process(tree, 100, ["0-3"])
    process(tree, 200, ["2-5"])
    process(tree, 300, ["3-6"])
    seats = {FIRST: 100, Seat(1, 0, (2, 3, 4, 5), 4, 0): 200, Seat(2, 0, (3, 4, 5, 6), 4, 0): 300}
    texts = [finding.text for finding in check_seats(seats, tmp_path).findings if finding.level == "red"]
    assert texts == [
        "CPUs 2 are shared by seats 0 (pid 100), 1 (pid 200)",
        "CPUs 3 are shared by seats 0 (pid 100), 1 (pid 200), 2 (pid 300)",
        "CPUs 4-5 are shared by seats 1 (pid 200), 2 (pid 300)",
    ]


def test_mask_narrowed_by_openmp(tmp_path):
    environ = "HOME=/\0OMP_PROC_BIND=true\0OMP_NUM_THREADS=4\0KMP_AFFINITY=granularity=fine"
    process(Tree(tmp_path), 100, ["0", "0-3", "0", "0", "0"], environ=environ)
    text = red(check_seats({FIRST: 100}, tmp_path))
    assert "4 of 5 threads are confined to CPUs 0 of 0-3, where 4 threads were planned" in text
    assert text.endswith("its environment has OMP_PROC_BIND=true, KMP_AFFINITY=granularity=fine")


def test_fewer_cpus_than_threads(tmp_path):
    process(Tree(tmp_path), 100, ["0-1", "1"])
    assert "2 of 2 threads are confined to CPUs 0-1 of 0-3" in red(check_seats({FIRST: 100}, tmp_path))


def test_pinned_threads_are_no_fault(tmp_path):
    process(Tree(tmp_path), 100, ["0", "1", "2", "3"])
    assert set(levels(check_seats({FIRST: 100}, tmp_path))) == {"green"}


def test_helpers_crowded_on_a_pinned_main_thread(tmp_path):
    tree = Tree(tmp_path)
    process(tree, 100, ["0", "1", "2", "3", "0", "0", "0", "0"])
    assert check_seats({FIRST: 100}, tmp_path).level == "yellow"
    process(tree, 100, ["0", "1", "2", "3", "0", "0", "0", "0"], environ="OMP_PLACES=cores")
    assert check_seats({FIRST: 100}, tmp_path).level == "red"


def test_a_few_threads_on_one_cpu_are_no_crowd(tmp_path):
    process(Tree(tmp_path), 100, ["0", "0", *["0-3"] * 6])
    assert check_seats({FIRST: 100}, tmp_path).level == "green"


def test_a_wide_mask_with_few_threads_needs_only_as_many_cpus(tmp_path):
    process(Tree(tmp_path), 100, ["0", "1"])
    report = check_seats({Seat(0, 0, (0, 1, 2, 3), 2, 0): 100}, tmp_path)
    assert report.findings[0].text.endswith("stay on CPUs 0-3, though none may use 2-3")


@pytest.mark.parametrize(
    ("there", "level"), [(85, "green"), (84, "yellow"), (50, "yellow"), (49, "red"), (0, "red")]
)
def test_share_of_pages(tmp_path, there, level):
    process(Tree(tmp_path), 100, ["0-3"], pages=heap(N0=there, N1=100 - there))
    assert levels(check_seats({FIRST: 100}, tmp_path)) == ["green", level]


def test_few_pages_are_not_judged(tmp_path):
    process(Tree(tmp_path), 100, ["0-3"], pages=heap(N1=15))
    assert "too little to judge" in check_seats({FIRST: 100}, tmp_path).findings[1].text


def test_pages_are_counted_by_size_and_file_pages_are_not(tmp_path):
    lines = [
        "7f00 prefer:0 anon=2 dirty=2 N0=2 kernelpagesize_kB=2048",
        "7f01 prefer:0 file=/lib/libc.so.6 anon=1 dirty=1 mapped=900 N1=900 kernelpagesize_kB=4",
        "7f02 prefer:0 file=/lib/libc.so.6 mapped=900 N1=900 kernelpagesize_kB=4",
        "7f03 default stack anon=3 dirty=3 N0=1 N1=2 kernelpagesize_kB=4",
        "7f04 default",
    ]
    process(Tree(tmp_path), 100, ["0-3"], pages="\n".join(lines))
    found = Process.read(100, tmp_path)
    assert found is not None
    assert found.anonymous_bytes == {0: (4 << 20) + 4096, 1: 8192}
    assert found.share_on(1) == 8192 / ((4 << 20) + 3 * 4096)


def test_pages_that_cannot_be_read(tmp_path):
    process(Tree(tmp_path), 100, ["0-3"], pages=None)
    assert levels(check_seats({FIRST: 100}, tmp_path)) == ["green", "yellow"]
    no_memory = Seat(0, 0, (0, 1, 2, 3), 4, None)
    assert levels(check_seats({no_memory: 100}, tmp_path)) == ["green"]


def test_dead_worker(tmp_path):
    assert red(check_seats({FIRST: 100}, tmp_path)) == "seat 0 (pid 100): there is no such process"


def test_worker_that_has_died_and_was_not_waited_for():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    try:
        assert "there is no such process" in red(check_seats({Seat(0, 0, HERE, 1, None): child}))
    finally:
        os.waitpid(child, 0)


def test_no_seats():
    assert check_seats({}) == SeatReport((), ())
    assert check_seats({}).level == "green"


@contextmanager
def running(code: str) -> Iterator[int]:
    """A real process that has done ``code``; its id."""
    script = f"import os, sys, threading\n{code}\nprint(flush=True)\nsys.stdin.read()\nstop.set()"
    started = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with started:
        assert started.stdout is not None
        assert started.stdout.readline() == "\n"
        yield started.pid
    assert started.returncode == 0


BOUND = """
from cpuserve.machine.numa import bind_to_seat
from cpuserve.machine.placement import Seat
stop = threading.Event()
bind_to_seat(Seat(0, 0, {cpus}, 1, None), strict=True)
[threading.Thread(target=stop.wait).start() for _ in range(3)]
ballast = bytes(range(256)) * (24 << 12)
"""


def test_real_process_in_its_seat():
    seat = Seat(0, 0, HERE[-1:], 1, None)
    with running(BOUND.format(cpus=HERE[-1:])) as pid:
        report = check_seats({seat: pid})
    assert report.level == "green"
    first = report.seated[0].process
    assert first is not None
    assert len(first.threads) == 4
    if Path("/proc/self/numa_maps").exists():
        assert sum((first.anonymous_bytes or {}).values()) >= 24 << 20


@pytest.mark.skipif(len(HERE) < 2, reason="needs two CPUs")
def test_real_processes_that_share_cpus():
    with running(BOUND.format(cpus=HERE)) as one, running(BOUND.format(cpus=HERE[1:])) as two:
        report = check_seats({Seat(0, 0, HERE[:1], 1, None): one, Seat(1, 0, HERE[1:], 1, None): two})
    reds = [finding.text for finding in report.findings if finding.level == "red"]
    assert "4 of 4 threads may leave" in reds[0]
    assert f"are shared by seats 0 (pid {one}), 1 (pid {two})" in reds[1]


@pytest.mark.skipif(len(HERE) < 2, reason="needs two CPUs")
def test_real_process_that_was_narrowed():
    shrink = f"stop = threading.Event()\nos.sched_setaffinity(0, {{{HERE[0]}}})"
    threads = "\n[threading.Thread(target=stop.wait).start() for _ in range(3)]"
    with running(shrink + threads) as pid:
        report = check_seats({Seat(0, 0, HERE, len(HERE), None): pid})
    assert "4 of 4 threads are confined" in red(report)
