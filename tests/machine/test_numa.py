"""Binding down is done in child processes, so that the tests keep their own CPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cpuserve.machine.numa import seat_environment
from cpuserve.machine.placement import Seat
from tests.sandbox import SET_MEMPOLICY

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = sorted(os.sched_getaffinity(0))

PREAMBLE = """
import json, os, pathlib, sys, threading, time
from cpuserve.errors import PlacementError
from cpuserve.machine.numa import bind_to_seat
from cpuserve.machine.placement import Seat
from tests.sandbox import refuse

def out(binding, **more):
    print(json.dumps({"cpus": binding.cpus, "policy": binding.policy, "reason": binding.reason, **more}))

def masks():
    found = []
    for tid in os.listdir("/proc/self/task"):
        try:
            found.append(sorted(os.sched_getaffinity(int(tid))))
        except ProcessLookupError:
            pass
    return found
"""


def child(code: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PREAMBLE + code],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture(scope="module")
def policy_allowed() -> None:
    """Skips where the tests themselves run under a sandbox that refuses set_mempolicy."""
    reason = child(f"out(bind_to_seat(Seat(0, 0, {tuple(HERE)}, 1, 0)))")["reason"]
    if reason:
        pytest.skip(reason)


@pytest.mark.parametrize("cpu", [HERE[0], HERE[-1]])
def test_every_thread_sits(cpu):
    got = child(f"""
stop = threading.Event()
before = threading.Thread(target=stop.wait, daemon=True)
before.start()
binding = bind_to_seat(Seat(0, 0, ({cpu},), 1, None), strict=True)
after = threading.Thread(target=stop.wait, daemon=True)
after.start()
out(binding, masks=masks())
stop.set()
""")
    assert got["cpus"] == [cpu]
    assert got["masks"] == [[cpu]] * 3
    assert (got["policy"], got["reason"]) == ("first-touch", None)


def test_threads_that_start_meanwhile_sit_too():
    got = child(f"""
stop = threading.Event()
def spawn():
    while not stop.is_set():
        threading.Thread(target=time.sleep, args=(0.001,)).start()
spawners = [threading.Thread(target=spawn, daemon=True) for _ in range(2)]
for spawner in spawners:
    spawner.start()
binding = bind_to_seat(Seat(0, 0, ({HERE[-1]},), 1, None))
found = masks()
stop.set()
out(binding, masks=found)
""")
    assert got["reason"] is None
    assert all(mask == [HERE[-1]] for mask in got["masks"])


@pytest.mark.usefixtures("policy_allowed")
def test_memory_is_preferred_from_the_node():
    got = child(f"""
binding = bind_to_seat(Seat(0, 0, {tuple(HERE)}, 1, 0), strict=True)
maps = pathlib.Path("/proc/self/numa_maps")
policies = {{line.split()[1] for line in maps.read_text().splitlines()}} if maps.exists() else set()
out(binding, policies=sorted(policies))
""")
    assert (got["cpus"], got["policy"], got["reason"]) == (HERE, "preferred", None)
    assert got["policies"] in ([], ["prefer:0"])


@pytest.mark.usefixtures("policy_allowed")
@pytest.mark.parametrize("node", [7, 63, 64, 900])
def test_node_without_memory(node):
    got = child(f"out(bind_to_seat(Seat(0, 0, {tuple(HERE)}, 1, {node}), strict=True))")
    assert got["policy"] == "first-touch"
    assert f"set_mempolicy for node {node} gave EINVAL" in got["reason"]


@pytest.mark.skipif(SET_MEMPOLICY == 0, reason="no seccomp filter written for this processor")
@pytest.mark.parametrize(("code", "name"), [(1, "EPERM"), (38, "ENOSYS"), (13, "EACCES")])
def test_refused_policy_is_one_line_and_no_error(code, name):
    got = child(f"""
refuse({SET_MEMPOLICY}, {code})
out(bind_to_seat(Seat(0, 0, {tuple(HERE)}, 1, 0), strict=True))
""")
    assert (got["cpus"], got["policy"]) == (HERE, "first-touch")
    assert f"set_mempolicy for node 0 gave {name}" in got["reason"]
    assert "\n" not in got["reason"]


def test_unknown_processor():
    got = child(f"""
import platform
platform.machine = lambda: "riscv64"
out(bind_to_seat(Seat(0, 0, {tuple(HERE)}, 1, 0)))
""")
    assert got["policy"] == "first-touch"
    assert "not known here for riscv64" in got["reason"]


def test_cpus_that_the_kernel_leaves_out():
    seat = f"Seat(3, 0, ({HERE[0]}, 4000), 2, None)"
    got = child(f"out(bind_to_seat({seat}))")
    assert got["cpus"] == [HERE[0]]
    assert f"only CPUs {HERE[0]} of {HERE[0]},4000 were given" in got["reason"]
    strict = child(f"""
try:
    bind_to_seat({seat}, strict=True)
except PlacementError as error:
    print(json.dumps(str(error)))
""")
    assert "seat 3" in strict
    assert "were given" in strict


@pytest.mark.parametrize("cpus", ["(4000,)", "()"])
def test_cpus_that_are_refused(cpus):
    got = child(f"out(bind_to_seat(Seat(0, 0, {cpus}, 1, None)))")
    assert got["cpus"] == HERE
    assert got["reason"]
    strict = child(f"""
try:
    bind_to_seat(Seat(0, 0, {cpus}, 1, None), strict=True)
except PlacementError as error:
    print(json.dumps(str(error)))
""")
    assert got["reason"] in strict


def test_both_refusals_are_told():
    got = child("out(bind_to_seat(Seat(0, 0, (4000,), 1, 900)))")
    assert "CPUs 4000 refused (Invalid argument)" in got["reason"]
    assert "; memory policy: first touch" in got["reason"]


def test_environment():
    seat = Seat(1, 0, (0, 1, 2, 3), 4, 0)
    assert seat_environment(seat, {}) == {
        "OMP_NUM_THREADS": "4",
        "MKL_NUM_THREADS": "4",
        "NUMEXPR_NUM_THREADS": "4",
        "OPENBLAS_NUM_THREADS": "1",
    }
    users = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "3"}
    assert seat_environment(seat, users) == {}  # MKL_NUM_THREADS would win over the user's word in PyTorch
    assert seat_environment(seat, {}, blas_threads=4)["OPENBLAS_NUM_THREADS"] == "4"


def test_environment_leaves_the_process_alone():
    before = dict(os.environ)
    seat_environment(Seat(1, 0, (0,), 1, 0))
    assert dict(os.environ) == before
