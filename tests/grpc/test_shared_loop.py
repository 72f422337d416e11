"""An asyncio loop that the serving threads run: nothing is lost, one thread at a time, timers in time."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from cpuserve.grpc.shared_loop import SharedLoop
from cpuserve.http.request_loop import RequestLoop
from cpuserve.serving.admission import Admission
from tests.http.clients import WAIT_S, wait_until


@contextmanager
def running(main, threads=1):
    """A loop with its coroutine, and the threads that run it."""
    requests = RequestLoop(
        *(threads, Admission(8, threads)),
        deadline_s=60.0,
        with_priorities=False,
        log=logging.getLogger("test.loop"),
    )
    loop = SharedLoop(requests.sources)
    requests.start()
    end = asyncio.Event()

    async def both():
        await main()
        await end.wait()

    loop.start(both())
    try:
        yield loop, requests
    finally:
        loop.post(end.set)
        wait_until(lambda: loop.ended)
        requests.end(WAIT_S)


async def nothing():
    pass


def test_functions_of_many_threads_are_called_one_at_a_time_and_none_is_lost():
    inside, called, most = [], [], []

    def function(name):
        inside.append(name)
        most.append(len(inside))
        called.append(name)
        inside.remove(name)

    with running(nothing, threads=2) as (loop, _):

        def post(thread):
            for number in range(300):
                loop.post(lambda name=(thread, number): function(name))

        threads = [threading.Thread(target=post, args=(thread,)) for thread in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        wait_until(lambda: len(called) == 1800)
        assert max(most) == 1
        for thread in range(6):
            assert [number for whose, number in called if whose == thread] == list(range(300))


def test_a_thread_with_an_answer_sends_it_itself():
    with running(nothing) as (loop, _):
        seen = []
        loop.post(lambda: seen.append(threading.current_thread()))
        assert seen == [threading.current_thread()]


def test_a_function_may_post_another():
    with running(nothing) as (loop, _):
        seen = []
        loop.post(lambda: loop.post(lambda: seen.append(1)))
        assert seen == [1]


def test_timers_run_while_all_threads_wait():
    passed = []

    async def main():
        for _ in range(3):
            await asyncio.sleep(0.02)
            passed.append(threading.current_thread().name)

    with running(main):
        wait_until(lambda: len(passed) == 3)
        assert passed[-1].startswith("serve-")


def test_an_earlier_timer_than_the_threads_wait_for_is_kept():
    async def main():
        asyncio.get_running_loop().call_later(1000, print)

    with running(main, threads=2) as (loop, requests):
        wait_until(lambda: requests.idle_threads == 2)
        rung = threading.Event()
        loop.post(lambda: asyncio.get_running_loop().call_later(0.05, rung.set))
        assert rung.wait(WAIT_S)


def test_what_another_thread_hands_to_asyncio_itself_is_run():
    found = []

    async def main():
        found.append(asyncio.get_running_loop())

    with running(main):
        wait_until(lambda: found)
        for _ in range(20):
            done = threading.Event()
            found[0].call_soon_threadsafe(done.set)
            assert done.wait(WAIT_S)


def test_a_source_is_taken_while_every_thread_is_busy(monkeypatch):
    with running(nothing) as (loop, requests):
        stuck, go = threading.Event(), threading.Event()

        def hold():
            stuck.set()
            go.wait(WAIT_S)

        number = os.eventfd(1)
        source = SimpleNamespace(number=number, due=float("inf"), take=hold)
        requests.sources.watch(source)
        assert stuck.wait(WAIT_S)
        rung = threading.Event()
        loop.post(lambda: asyncio.get_running_loop().call_later(0.01, rung.set))
        requests.help_out()
        assert not rung.wait(0.05)  # nobody is there to run it
        wait_until(lambda: requests.help_out() or rung.is_set())
        go.set()
        requests.sources.unwatch(source)
        os.close(number)


def test_events_without_end_leave_turns_to_all_others():
    endless, other, taken = os.eventfd(1), os.eventfd(1), threading.Event()

    async def main():
        asyncio.get_running_loop().add_reader(endless, lambda: None)

    with running(main) as (loop, requests):
        source = SimpleNamespace(number=other, due=float("inf"), take=taken.set)
        requests.sources.watch(source)
        assert taken.wait(WAIT_S)
        requests.sources.unwatch(source)
        loop.post(lambda: asyncio.get_running_loop().remove_reader(endless))
    os.close(endless)
    os.close(other)


def test_a_failing_function_ends_nothing(caplog):
    with running(nothing) as (loop, _), caplog.at_level(logging.CRITICAL, "asyncio"):
        loop.post(lambda: {}["nothing"])
        seen = []
        loop.post(lambda: seen.append(1))
        assert seen == [1]


def test_posts_before_the_beginning_wait_and_those_after_the_end_are_dropped():
    class Threads:
        def __init__(self):
            self.watched = []

        def watch(self, source):
            self.watched.append(source)

        def unwatch(self, source):
            self.watched.remove(source)

        def watch_again(self, source):
            pass

        def hurry(self):
            pass

    seen, threads = [], Threads()
    loop = SharedLoop(threads)
    loop.post(lambda: seen.append("early"))
    assert seen == []

    async def main():
        other = asyncio.create_task(asyncio.sleep(1000))
        await asyncio.sleep(0)
        other.add_done_callback(lambda task: seen.append(task.cancelled()))

    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    loop.start(main())
    assert (seen, loop.ended, threads.watched) == (["early", True], True, [])
    loop.post(lambda: seen.append("late"))
    assert seen == ["early", True]
    assert len(list(Path("/proc/self/fd").iterdir())) < descriptors  # its epoll instance


def test_what_its_coroutine_raises_is_told_to_who_runs_it():
    async def main():
        raise KeyError("a fault")

    class Threads:
        watch = unwatch = watch_again = staticmethod(lambda _source: None)
        hurry = staticmethod(lambda: None)

    loop = SharedLoop(Threads())
    with pytest.raises(KeyError, match="a fault"):
        loop.start(main())
    assert loop.ended


def test_who_sends_an_answer_leaves_what_has_come_to_those_who_wait_for_it():
    come, seen, again = os.eventfd(1), [], []

    class Threads:
        watch = unwatch = staticmethod(lambda _source: None)
        watch_again = staticmethod(again.append)
        hurry = staticmethod(lambda: None)

    end = asyncio.Event()

    async def main():
        def read():
            seen.append("come")
            asyncio.get_running_loop().remove_reader(come)

        asyncio.get_running_loop().add_reader(come, read)
        await end.wait()

    loop = SharedLoop(Threads())
    loop.start(main())
    loop.post(lambda: seen.append("answer"))
    assert (seen, again) == (["answer"], [])
    loop.take()  # its turn among all that are readable
    assert (seen, again) == (["answer", "come"], [loop])
    loop.post(end.set)
    assert loop.ended
    os.close(come)
