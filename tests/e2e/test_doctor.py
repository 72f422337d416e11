"""The doctor and real servers: green as planned, red for each way of leaving a seat, caused here."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sklearn

from tests.servers import Server, serving

ROOT = Path(__file__).resolve().parent.parent.parent
MODELS = ("--model-repository", str(ROOT / "ir_models"))
PICTURE = (ROOT / "docs" / "seven.png").read_bytes()
HERE = sorted(os.sched_getaffinity(0))
pytestmark = pytest.mark.skipif(len(HERE) < 2, reason="two seats need two CPUs")


def doctor(*words: object) -> tuple[int, dict[str, Any]]:
    """Exit code and report of `cpuserve doctor`."""
    done = subprocess.run(
        [sys.executable, "-m", "cpuserve", "doctor", "--json", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


def red(report: dict[str, Any]) -> list[str]:
    """What is red, apart from other servers that happen to run on this machine."""
    found = [one for one in report["findings"] if one["level"] == "red"]
    assert all(one["advice"] for one in found)
    return [one["text"] for one in found if not one["text"].startswith("another server")]


def pin(pid: int, cpus: set[int]) -> None:
    """Move every thread of a process."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), cpus)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers in their seats."""
    log = tmp_path_factory.mktemp("doctor") / "log"
    with serving(log, *MODELS, "--workers", "2", ready=2) as running:
        yield running


def test_a_server_as_planned_is_green_by_its_own_word_and_by_the_kernels(server):
    own = server.get("/v2/placement").json()
    assert red(own) == []
    assert own["preset"] is None
    assert {key: own["server"][key] for key in ("pid", "address")} == {
        "pid": server.process.pid,
        "address": f"127.0.0.1:{server.port}",
    }
    assert [seat["cpus"] for seat in own["seats"]] == [str(HERE[0]), str(HERE[1])]
    assert {worker["pid"]: worker["seat"] for worker in own["workers"]} == server.seats()
    for worker, seat in zip(own["workers"], own["seats"], strict=True):
        assert len(worker["threads"]) > 3
        assert {thread["allowed"] for thread in worker["threads"]} == {seat["cpus"]}
        assert worker["libraries"]["tbb"]
    code, asked = doctor("--url", f"http://127.0.0.1:{server.port}", "--window", "0.5")
    assert (code, red(asked)) == (int(asked["level"] == "red"), [])
    assert asked.keys() == own.keys()
    assert asked["throttling"]["window"]["seconds"] >= 0.5
    _, looked = doctor("--pid", server.process.pid, "--window", "0")
    assert red(looked) == []
    for key in ("server", "seats", "topology", "budget", "machine"):
        assert looked[key] == own[key]


def test_a_second_server_on_the_same_cpus_is_told_at_its_start_and_by_both(server, tmp_path):
    with serving(tmp_path / "log", *MODELS, "--workers", "2", ready=2) as second:
        both = f"also has CPUs {HERE[0]}-{HERE[1]}" if HERE[1] == HERE[0] + 1 else "also has CPUs"
        first_said = f"another server (pid {server.process.pid}, 127.0.0.1:{server.port}) {both}"
        assert re.search(f"WARNING .*{re.escape(first_said)}.*: give each server its own CPUs", second.text())
        time.sleep(0.5)  # an answer is kept for so long
        for asked, other in ((second, server), (server, second)):
            report = asked.get("/v2/placement").json()
            assert report["level"] == "red"
            text = f"another server (pid {other.process.pid}, 127.0.0.1:{other.port}) {both}"
            (found,) = [one for one in report["findings"] if one["text"].startswith(text)]
            assert (found["level"], found["section"]) == ("red", "server")
            assert not [one for one in report["findings"] if f"(pid {asked.process.pid}," in one["text"]]


def test_workers_on_one_cpu_are_red(server):
    pids = {seat: pid for pid, seat in server.seats().items()}
    pin(pids[1], {HERE[0]})
    try:
        code, report = doctor("--pid", server.process.pid, "--window", "0")
        own = []  # an answer is kept for a while: a worker may still tell of a server that has just ended

        def seen():
            own[:] = red(server.get("/v2/placement").json())
            return any("threads may leave" in text for text in own)

        server.wait_until(seen, "red in its own eyes")
    finally:
        pin(pids[1], {HERE[1]})
    assert code == 1
    for found in (red(report), own):
        assert any(f"threads may leave CPUs {HERE[1]}" in text for text in found)
        shared = f"CPUs {HERE[0]} are shared by seats 0 (pid {pids[0]}), 1 (pid {pids[1]})"
        assert shared in found


def test_a_dead_worker_is_red_also_when_the_arbiter_hangs(server):
    victim, seat = next(iter(server.seats().items()))
    server.process.send_signal(signal.SIGSTOP)  # so that it starts no other
    try:
        os.kill(victim, signal.SIGKILL)
        code, report = doctor("--pid", server.process.pid, "--window", "0")
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert code == 1
    assert red(report) == [f"seat {seat} (pid {victim}): there is no such process"]
    server.settle(2, [victim])


def gomp() -> Path:
    """The OpenMP runtime that scikit-learn brings along."""
    found = sorted(Path(sklearn.__file__).parent.parent.glob("scikit_learn.libs/libgomp*"))
    if not found:
        pytest.skip("scikit-learn brings no libgomp here")
    return found[0]


def test_openmp_that_takes_cpus_from_a_worker_is_red(tmp_path):
    """A library that starts libgomp in the worker: it pins the thread that all others are started from."""
    (tmp_path / "sitecustomize.py").write_text(
        "import ctypes, sys\n"
        "class WithOpenVino:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'openvino':\n"
        "            sys.meta_path.remove(self)\n"
        f"            ctypes.CDLL({str(gomp())!r})\n"
        "sys.meta_path.insert(0, WithOpenVino())\n"
    )
    environment = {"PYTHONPATH": str(tmp_path), "GOMP_CPU_AFFINITY": str(HERE[0])}
    with serving(tmp_path / "log", *MODELS, "--workers", "1", **environment) as server:
        code, report = doctor("--pid", server.process.pid, "--window", "0")
    assert code == 1
    (text,) = red(report)
    assert f"are confined to CPUs {HERE[0]} of {HERE[0]}" in text
    assert f"its environment has GOMP_CPU_AFFINITY={HERE[0]}" in text
    (openmp,) = [one for one in report["findings"] if one["section"] == "openmp"]
    assert openmp["level"] == "yellow"
    assert gomp().name in openmp["text"]


def test_openmp_that_narrows_the_arbiter_before_it_plans_is_red(tmp_path):
    environment = {"LD_PRELOAD": str(gomp()), "GOMP_CPU_AFFINITY": str(HERE[1])}
    with serving(tmp_path / "log", *MODELS, **environment) as server:
        code, report = doctor("--pid", server.process.pid, "--window", "0")
    assert code == 1
    assert [seat["cpus"] for seat in report["seats"]] == [str(HERE[1])]
    (text,) = red(report)
    assert "is loaded into the arbiter" in text
    assert f"it may run on CPUs {HERE[1]}, its parent on" in text


@contextmanager
def group() -> Iterator[Path]:
    """A CPU control group of its own (v1) that this process is in; what is started here stays in it."""
    own = re.search(r"^\d+:(?:[\w,]+,)?cpu(?:,[\w,]+)?:(\S+)", Path("/proc/self/cgroup").read_text(), re.M)
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    points = [fields[4] for fields in mounts if "cgroup" in fields and "cpu" in fields[-1].split(",")]
    if own is None or not points:
        pytest.skip("no v1 cpu controller is mounted")
    home = Path(points[0], own[1].lstrip("/"))
    folder = home / f"cpuserve-test-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / "cgroup.procs").write_text(str(os.getpid()))
    except OSError as error:
        pytest.skip(f"control groups cannot be made here: {error}")
    try:
        yield folder
    finally:
        (home / "cgroup.procs").write_text(str(os.getpid()))
        while (folder / "cgroup.procs").read_text():
            time.sleep(0.02)
        folder.rmdir()


def test_a_quota_below_the_threads_is_red_while_it_throttles(tmp_path):
    with group() as folder, serving(tmp_path / "log", *MODELS, "--workers", "2", ready=2) as server:
        _, before = doctor("--pid", server.process.pid, "--window", "0")
        (folder / "cpu.cfs_quota_us").write_text("50000")
        stop = threading.Event()

        def client() -> None:
            while not stop.is_set():
                server.post("/predictions/digits", PICTURE)

        clients = [threading.Thread(target=client) for _ in range(4)]
        for each in clients:
            each.start()
        try:
            code, report = doctor("--pid", server.process.pid, "--window", "1.5")
            own = server.get("/v2/placement").json()
        finally:
            (folder / "cpu.cfs_quota_us").write_text("-1")
            stop.set()
            for each in clients:
                each.join()
    assert before["budget"]["quota"] is None
    assert red(before) == []
    assert code == 1
    (text,) = red(report)
    assert re.match(
        r"throttling now: stopped in \d+ of \d+ periods .* quota 0.5 CPUs for 2 compute threads", text
    )
    assert report["budget"]["quota_source"] == str(folder / "cpu.cfs_quota_us")
    assert report["throttling"]["window"]["nr_throttled"] >= 1
    assert report["throttling"]["life"]["nr_throttled"] >= 1
    assert any("2 compute threads for 0.5 CPUs" in one["text"] for one in report["findings"])
    assert any(text.startswith("throttling now") for text in red(own))
