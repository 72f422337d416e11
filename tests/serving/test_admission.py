import time

import pytest

from cpuserve.errors import DeadlineExceeded, QueueFull
from cpuserve.serving.admission import Admission


def test_a_refusal_names_the_limit_and_when_to_come_back():
    admission = Admission(queue_size=10, threads=2)
    for _ in range(200):
        admission.served(0.5)
    admission.admit(9, 9, 60)
    with pytest.raises(QueueFull, match=r"10 requests.*10.*queue_size") as caught:
        admission.admit(10, 10, 60)
    assert caught.value.retry_after_s == pytest.approx(2.5, rel=0.01)
    assert caught.value.status == 503


def test_what_cannot_be_answered_in_time_is_refused_at_once_and_told_when():
    admission = Admission(queue_size=100, threads=2)
    admission.admit(50, 50, 0.001)  # nothing is known yet: let it try
    for _ in range(200):
        admission.served(0.1)
    admission.admit(20, 8, left_s=0.64)  # 8 before it: 0.4 s of waiting, 0.1 s of work, a quarter more
    with pytest.raises(QueueFull, match=r"625 ms.*600 ms.*X-Request-Timeout-Ms") as caught:
        admission.admit(20, 8, left_s=0.6)
    assert caught.value.retry_after_s == pytest.approx(0.025)


def test_what_waited_past_its_time_is_dropped_before_inference():
    admission = Admission(queue_size=100, threads=1)
    admission.check(0)
    admission.served(0.1)
    admission.check(0.2)
    with pytest.raises(DeadlineExceeded, match=r"50 ms.*100 ms") as caught:
        admission.check(0.05)
    assert caught.value.status == 504


def test_a_server_that_was_frozen_answers_again(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    admission = Admission(queue_size=100, threads=1)
    admission.served(0.01)
    admission.served(600)  # frozen inside a request
    for _ in range(2):
        with pytest.raises(QueueFull, match="its deadline is in 10000 ms"):
            admission.admit(0, 0, left_s=10)
        with pytest.raises(DeadlineExceeded):
            admission.check(10)
        now += 30
    now += 1  # twice its service time has passed without anybody served
    admission.admit(0, 0, left_s=10)
    admission.check(10)
    admission.served(0.01)
    admission.admit(0, 0, left_s=0.02)
