"""Seats stay: whoever dies, leaves or is asked to come, each seat has one worker and each worker one seat."""

from __future__ import annotations

import os
import re
import signal
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.servers import Server, masks, serving

ROOT = Path(__file__).resolve().parent.parent.parent
PICTURE = (ROOT / "docs" / "seven.png").read_bytes()
pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two seats need two CPUs")


@pytest.fixture
def server(tmp_path):
    with serving(
        tmp_path / "log", "--model-repository", str(ROOT / "ir_models"), "--workers", "2", ready=2
    ) as running:
        yield running
        assert running.stop() == 0


def settled(server: Server, gone: set[int], count: int) -> dict[int, frozenset[int]]:
    """Wait until ``count`` workers are ready and those ``gone`` have left; the CPUs of each worker."""
    server.settle(count, gone)
    return {pid: cpus for pid in server.workers() for cpus in [one(masks(pid))]}


def one(found: set[frozenset[int]]) -> frozenset[int]:
    """The mask that all threads have; fails when a thread is elsewhere."""
    (mask,) = found
    return mask


def count(server: Server, words: str) -> int:
    return len(re.findall(words, server.text()))


def test_the_seat_of_a_killed_worker_is_taken_again_and_no_other(server):
    seats = settled(server, set(), 2)
    assert not frozenset.intersection(*seats.values())
    for victim in list(seats):  # each seat once, the lower and the higher
        os.kill(victim, signal.SIGKILL)
        now = settled(server, {victim}, 2)
        (new,) = set(now) - set(seats)
        assert now == {pid: cpus for pid, cpus in seats.items() if pid != victim} | {new: seats[victim]}
        seats = now


def test_the_seats_of_all_workers_killed_at_once_are_taken_again(server):
    before = settled(server, set(), 2)
    for victim in before:
        os.kill(victim, signal.SIGKILL)
    after = settled(server, set(before), 2)
    assert set(after.values()) == set(before.values())
    assert server.post("/predictions/digits", PICTURE).json()["predictions"][0]["label"] == "7"


def test_after_hup_a_new_worker_is_in_each_seat(server):
    before = settled(server, set(), 2)
    server.process.send_signal(signal.SIGHUP)
    after = settled(server, set(before), 2)
    assert sorted(map(sorted, after.values())) == sorted(map(sorted, before.values()))
    victim = min(after)
    os.kill(victim, signal.SIGKILL)  # the seats are as firm as before the HUP
    again = settled(server, {victim}, 2)
    assert sorted(map(sorted, again.values())) == sorted(map(sorted, before.values()))


@pytest.mark.parametrize("dead", [0, 1])
def test_hup_while_a_seat_is_empty_fills_both(server, dead):
    """The worker that leaves does not keep its seat from a new one."""
    before = settled(server, set(), 2)
    server.process.send_signal(signal.SIGTTOU)
    server.wait_until(lambda: len(server.workers()) == 1, "one worker fewer")
    if dead:  # the one left is killed, so that whichever seat is left over is tried
        (left,) = server.workers()
        os.kill(left, signal.SIGKILL)
        settled(server, {left}, 1)
    server.process.send_signal(signal.SIGHUP)
    after = settled(server, set(before), 2)
    assert sorted(map(sorted, after.values())) == sorted(map(sorted, before.values()))


def test_a_worker_more_than_seats_is_refused_in_one_line(server):
    before = settled(server, set(), 2)
    for words in ("no worker added: all 2 seats are taken", "no worker added.*(?s:.*)no worker added"):
        server.process.send_signal(signal.SIGTTIN)
        server.wait_until(lambda words=words: count(server, words), "refused", timeout_s=10)
    assert settled(server, set(), 2) == before
    assert count(server, "Booting worker") == 2
    server.process.send_signal(signal.SIGTTOU)  # the refusals were not counted
    assert len(settled(server, set(), 1)) == 1


def test_a_worker_fewer_and_one_more_comes_back_to_the_free_seat(server):
    before = settled(server, set(), 2)
    server.process.send_signal(signal.SIGTTOU)
    stayed = settled(server, set(), 1)
    assert stayed.items() <= before.items()
    server.process.send_signal(signal.SIGTTIN)
    after = settled(server, set(before) - set(stayed), 2)
    assert stayed.items() <= after.items()
    assert sorted(map(sorted, after.values())) == sorted(map(sorted, before.values()))
    assert count(server, "seats are taken") == 0


def sockets(pid: int) -> int:
    return sum(str(fd.readlink()).startswith("socket:") for fd in Path(f"/proc/{pid}/fd").iterdir())


def test_workers_that_left_take_no_line_of_the_board_along(server):
    """Connections still go to the worker that has fewest, which it says on its seat's line."""
    before = settled(server, set(), 2)
    server.process.send_signal(signal.SIGHUP)
    after = settled(server, set(before), 2)
    idle = {pid: sockets(pid) for pid in after}
    with ExitStack() as stack:
        for _ in range(6):
            client = HTTPConnection("127.0.0.1", server.port, timeout=60)
            stack.callback(client.close)
            client.request("GET", "/v2/health/ready")
            assert client.getresponse().read() is not None
        held = {pid: sockets(pid) - idle[pid] for pid in after}
    assert sum(held.values()) == 6
    assert min(held.values()) >= 2, held
