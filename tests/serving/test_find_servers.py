"""Servers are found by the worker tables they hold open, without a request."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cpuserve.machine.cgroup import ThrottlingSample
from cpuserve.machine.placement import Seat, SeatPlan
from cpuserve.machine.server_status import WorkerStatus, describe_server
from cpuserve.serving.find_servers import find_servers, server_status
from cpuserve.serving.worker_table import LINK, WorkerTable
from cpuserve.settings import Settings

ARBITER = """
import os, sys
from cpuserve.machine.placement import SeatPlan, Seat
from cpuserve.machine.server_status import describe_server
from cpuserve.machine.cgroup import ThrottlingSample
from cpuserve.serving.worker_table import READY, WorkerTable
from cpuserve.settings import Settings
seats = tuple(Seat(i, 0, (i + 4,), 1, 0) for i in range(2))
plan = SeatPlan(seats, ("a note",))
start = ThrottlingSample(1, {})
settings = Settings(host="host", port=1, threads=3, models={"m": {"max_batch": 2}})
table = WorkerTable(2, describe_server(plan, settings, pid=os.getpid(), start=start))
def worker(seat):
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        if seat is not None:
            table.rows[seat].begin(seat)
            table.rows[seat].pid, table.rows[seat].state = os.getpid(), READY
        os.write(told, b"x")
        sys.stdin.read()
        os._exit(0)
    os.read(ready, 1)
    return pid
print(worker(0), worker(None), flush=True)
sys.stdin.read()
"""


@contextmanager
def arbiter(*wrapper: str) -> Iterator[tuple[int, list[int]]]:
    """A process that holds a table as an arbiter does, with a worker in seat 0 and one in none; their ids."""
    with subprocess.Popen(
        [*wrapper, sys.executable, "-c", ARBITER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        yield process.pid, pids
        process.communicate()


def test_a_server_is_found_with_its_seats_and_workers():
    with arbiter() as (pid, (seated, other)):
        (found,) = [one for one in find_servers() if one.pid == pid]
        assert found.address == "host:1"
        assert found.seats == (Seat(0, 0, (4,), 1, 0), Seat(1, 0, (5,), 1, 0))
        assert found.workers == (WorkerStatus(0, seated, "ready"), WorkerStatus(1, 0, "empty"))
        assert found.others == (other,)
        assert (found.notes, found.threads, found.start) == (("a note",), 6, ThrottlingSample(1, {}))
        assert found.settings.threads == 3
        assert found.settings.models == {"m": {"max_batch": 2}}
    assert pid not in [one.pid for one in find_servers()]


def test_a_server_in_a_pid_namespace_has_the_ids_of_this_one():
    unshare = ("unshare", "--pid", "--fork", "--kill-child")
    if os.getuid() or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("pid namespaces cannot be made here")
    with arbiter(*unshare) as (outer, inside):
        (found,) = [one for one in find_servers() if parent(one.pid) == outer]
        assert inside == [2, 3]
        assert parent(found.workers[0].pid) == found.pid
        assert [parent(pid) for pid in found.others] == [found.pid]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def tables(unique: str) -> list[WorkerTable]:
    """The boards this process holds with ``unique`` in what they say."""
    files = [file for file in Path("/proc/self/fd").iterdir() if os.path.lexists(file) and link(file) == LINK]
    found = [WorkerTable.snapshot(file) for file in files]
    return [table for table in found if table.description.get("unique") == unique]


def link(file: Path) -> str:
    with suppress(OSError):  # the descriptor that listed the folder
        return str(file.readlink())
    return ""


def test_a_snapshot_is_the_board_as_it_is_now():
    table = WorkerTable(9, {"unique": "now"})
    table.rows[8].pid, table.rows[8].connections = 77, 3
    (copy,) = tables("now")
    table.rows[8].pid = 78
    assert [(row.pid, row.connections) for row in copy.rows] == [(0, 0)] * 8 + [(77, 3)] + [(0, 0)] * 18
    del table
    assert tables("now") == []


def test_an_older_cpuserves_table_is_refused(tmp_path):
    file = tmp_path / "table"
    file.write_bytes((2).to_bytes(8, "little") * 8)
    with pytest.raises(ValueError, match="no cpuserve-workers of this version"):
        WorkerTable.snapshot(file)


def test_the_callers_own_table_is_no_server():
    table = WorkerTable(
        1, describe_server(SeatPlan(()), Settings(), pid=os.getpid(), start=ThrottlingSample(0, {}))
    )
    assert os.getpid() not in [one.pid for one in find_servers()]
    assert server_status(table, {}).pid == os.getpid()
