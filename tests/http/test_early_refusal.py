"""Other transports' requests are measured by the clock of HTTP's: `EarlyRefusal` and `RequestLoop.submit`."""

from __future__ import annotations

import logging
import os
import threading
import time
from types import SimpleNamespace

import pytest

from cpuserve.errors import QueueFull
from cpuserve.http import request_loop
from cpuserve.http.early_refusal import EarlyRefusal
from cpuserve.http.request_loop import RequestLoop
from cpuserve.http.request_queue import RequestQueue
from cpuserve.protocols.urgency import DEFAULT_PRIORITY, Urgency
from cpuserve.serving.admission import Admission

_CALL = SimpleNamespace(headers={}, data=b"", client="a", path="/p", address="")


@pytest.mark.parametrize(("ago_s", "fits"), [(0.0, True), (0.4, True), (0.8, False)])
def test_the_time_that_it_may_have_waited_unread_counts(ago_s, fits):
    queue, admission = RequestQueue(), Admission(8, 1)
    admission.served("/p", 0.2, time.monotonic())
    queue.put("waits", "b", DEFAULT_PRIORITY, 0.2)  # 0.4 s with its own, 5 % more at least
    early = EarlyRefusal(queue, admission, 60.0, False, lambda: time.monotonic() - ago_s)
    if fits:
        early.check(_CALL, 1.0)
    else:
        with pytest.raises(QueueFull, match="its deadline is in"):
            early.check(_CALL, 1.0)


def test_what_a_serving_thread_reads_may_have_come_since_the_poll_before(monkeypatch):
    monkeypatch.setattr(request_loop, "_RETURNED_AT_ONCE_S", 10.0)  # also on a busy machine
    loop = RequestLoop(
        *(1, Admission(8, 1)), deadline_s=60.0, with_priorities=False, log=logging.getLogger("test.loop")
    )
    ran, held, go = [], threading.Event(), threading.Event()
    loop.runner.run = lambda queued, _began: (ran.append(queued), held.set(), go.wait(10))
    waiting = SimpleNamespace(
        call=_CALL, has_body=True, target="/p", urgency=lambda default: Urgency(default, DEFAULT_PRIORITY)
    )
    loop.start()
    before = time.monotonic()
    loop.submit(waiting)  # by a thread that runs no requests: it has come now
    assert held.wait(10)
    assert ran[0].since >= before

    number = os.eventfd(0)
    source = SimpleNamespace(number=number, due=0.0, take_due=lambda: loop.submit(waiting))
    held.clear()
    loop.sources.watch(source)
    busy_until = time.monotonic()
    go.set()
    assert held.wait(10)
    loop.sources.unwatch(source)
    loop.end(10)
    os.close(number)
    assert ran[1].since <= busy_until  # while it was busy nobody looked
