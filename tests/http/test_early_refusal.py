"""Requests of other transports are refused before they are read where they could not wait: `EarlyRefusal`."""

from __future__ import annotations

import logging
import threading
import time
from types import SimpleNamespace

import pytest

from cpuserve.errors import QueueFull
from cpuserve.http.early_refusal import EarlyRefusal
from cpuserve.http.request_loop import RequestLoop
from cpuserve.http.request_queue import RequestQueue
from cpuserve.protocols.urgency import DEFAULT_PRIORITY, Urgency
from cpuserve.serving.admission import Admission

_CALL = SimpleNamespace(headers={}, data=b"", client="a", path="/p", address="")


@pytest.mark.parametrize(("left_s", "fits"), [(None, True), (1.0, True), (0.2, False)])
def test_a_request_that_has_too_little_time_is_refused(left_s, fits):
    queue, admission = RequestQueue(), Admission(8, 1)
    admission.served("/p", 0.2, time.monotonic())
    queue.put("waits", "b", DEFAULT_PRIORITY, 0.2)  # 0.4 s with its own, 5 % more at least
    early = EarlyRefusal(queue, admission, 60.0, False)
    if fits:
        early.check(_CALL, left_s)
    else:
        with pytest.raises(QueueFull, match="its deadline is in"):
            early.check(_CALL, left_s)


def test_what_another_transport_submits_has_come_now():
    loop = RequestLoop(
        *(1, Admission(8, 1)), deadline_s=60.0, with_priorities=False, log=logging.getLogger("test.loop")
    )
    ran, held = [], threading.Event()
    loop.runner.run = lambda queued, _began: (ran.append(queued), held.set())
    waiting = SimpleNamespace(
        call=_CALL, has_body=True, target="/p", urgency=lambda default: Urgency(default, DEFAULT_PRIORITY)
    )
    loop.start()
    before = time.monotonic()
    loop.submit(waiting)
    assert held.wait(10)
    assert ran[0].since >= before
    loop.end(10)
