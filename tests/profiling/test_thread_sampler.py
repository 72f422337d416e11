"""Threads as the kernel counts them: who computes, who waits, and what each is for."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from cpuserve.machine.process_controls import show_thread_name
from cpuserve.profiling.thread_sampler import ThreadSampler


def wait_until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def cpu_ns(thread):
    return int(Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text().split()[0])


def sleeps(thread):
    return Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rpartition(") ")[2].startswith("S")


def watched():
    """A scheduler that watches this process."""
    scheduler = ThreadSampler(lambda: [os.getpid()])
    scheduler.start()
    return scheduler


def test_a_thread_that_computes_has_cpu_time_and_one_that_waits_has_next_to_none():
    ending = threading.Event()

    def compute():
        while not ending.is_set():
            sum(range(10_000))

    busy, idle = threading.Thread(target=compute), threading.Thread(target=ending.wait)
    busy.start(), idle.start()
    wait_until(lambda: sleeps(idle))  # what it takes to start is over
    scheduler = watched()
    before = cpu_ns(busy)
    wait_until(lambda: cpu_ns(busy) - before > 50_000_000)
    scheduler.stop()
    tracks = {track.tid: track for track in scheduler.tracks([busy.native_id], arbiter=0)}
    ending.set()
    busy.join(), idle.join()
    ran, waited = tracks[busy.native_id], tracks[idle.native_id]
    computed = ran.samples[-1][1] - ran.samples[0][1]
    assert computed >= 40_000_000  # the first sample and the last may be a tick old
    assert ran.samples == sorted(ran.samples, key=lambda sample: sample[0])
    assert all(0 <= cpu < (os.cpu_count() or 1) for _, _, _, cpu in ran.samples)
    assert ran.role == "serve"
    assert waited.samples[-1][1] - waited.samples[0][1] < computed / 10
    assert tracks[os.getpid()].role == "accept"
    assert tracks[os.getpid()].voluntary > 0


def test_roles_follow_names_and_who_inherited_them():
    ending = threading.Event()
    named = threading.Semaphore(0)

    def wait():
        show_thread_name()
        named.release()
        ending.wait()

    serve, models, later = (
        threading.Thread(target=wait, name=name) for name in ("serve-0", "models", "serve-0")
    )
    for thread in (serve, models, later):
        thread.start()
    for _ in range(3):
        named.acquire()
    scheduler = watched()
    scheduler.stop()
    roles = {track.tid: (track.name, track.role) for track in scheduler.tracks([], arbiter=0)}
    arbiter = {track.role for track in scheduler.tracks([], arbiter=os.getpid())}
    ending.set()
    serve.join(), models.join(), later.join()
    first, second = sorted([serve.native_id, later.native_id])
    assert roles[first] == ("serve-0", "serve")
    assert roles[second] == ("serve-0", "openvino")
    assert roles[models.native_id] == ("models", "admin")
    assert arbiter == {"arbiter"}


def test_a_thread_that_ends_keeps_what_was_seen_of_it():
    ending = threading.Event()
    short = threading.Thread(target=ending.wait)
    short.start()
    scheduler = watched()

    def track():
        (found,) = [one for one in scheduler.tracks([], 0) if one.tid == short.native_id]
        return found

    wait_until(lambda: track().samples)
    ending.set()
    short.join()
    ended = time.perf_counter_ns()
    (own,) = [one for one in scheduler.tracks([], 0) if one.tid == os.getpid()]
    wait_until(lambda: own.samples[-1][0] > ended)
    scheduler.stop()
    assert 0 < len(track().samples) < len(own.samples)
