"""Threads as the kernel counts them: who computes, who waits, and what each is for."""

from __future__ import annotations

import os
import threading
import time

from cpuserve.machine.thread_names import show_thread_name
from cpuserve.profiling.scheduler import Scheduler


def watched(seconds, *threads):
    """Tracks of this process by thread id, while the threads run."""
    scheduler = Scheduler(lambda: [os.getpid()])
    for thread in threads:
        thread.start()
    scheduler.start()
    time.sleep(seconds)
    scheduler.stop()
    return scheduler


def test_a_thread_that_computes_has_cpu_time_and_one_that_waits_has_none():
    ending = threading.Event()

    def compute():
        while not ending.is_set():
            sum(range(10_000))

    busy, idle = threading.Thread(target=compute), threading.Thread(target=ending.wait)
    scheduler = watched(0.4, busy, idle)
    tracks = {track.tid: track for track in scheduler.tracks([busy.native_id], arbiter=0)}
    ending.set()
    busy.join(), idle.join()
    ran = tracks[busy.native_id]
    assert ran.samples[-1][1] - ran.samples[0][1] > 10_000_000
    assert ran.samples == sorted(ran.samples, key=lambda sample: sample[0])
    assert all(0 <= cpu < (os.cpu_count() or 1) for _, _, _, cpu in ran.samples)
    assert ran.role == "serve"
    waited = tracks[idle.native_id]
    assert waited.samples[-1][1] == waited.samples[0][1]
    assert tracks[os.getpid()].role == "accept"
    assert tracks[os.getpid()].voluntary > 0


def test_roles_follow_names_and_who_inherited_them():
    ending = threading.Event()

    def named():
        show_thread_name()
        ending.wait()

    serve, models = (
        threading.Thread(target=named, name="serve-0"),
        threading.Thread(target=named, name="models"),
    )
    later = threading.Thread(target=named, name="serve-0")
    serve.start(), models.start()
    scheduler = watched(0.1, later)
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
    short = threading.Thread(target=time.sleep, args=(0.1,))
    scheduler = watched(0.3, short)
    (track,) = [track for track in scheduler.tracks([], 0) if track.tid == short.native_id]
    assert track.samples
    assert track.samples[-1][0] < scheduler.tracks([], 0)[-1].samples[-1][0]
