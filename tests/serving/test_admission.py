"""What may wait: by number, by deadline, and by what requests of the same kind have taken."""

import random
import time

import pytest

from cpuserve.errors import DeadlineExceeded, QueueFull
from cpuserve.serving.admission import Admission


def served(admission, kind, seconds):
    admission.served(kind, seconds, time.monotonic())


def test_a_refusal_names_the_limit_and_when_to_come_back():
    admission = Admission(queue_size=10, threads=2)
    admission.admit("a", 9, 9, 4.5, 60)
    with pytest.raises(QueueFull, match=r"10 requests.*10.*queue_size") as caught:
        admission.admit("a", 10, 10, 5.0, 60)
    assert caught.value.retry_after_s == pytest.approx(2.5)
    assert caught.value.status == 503


def test_what_cannot_be_answered_in_time_is_refused_at_once_and_told_when():
    admission = Admission(queue_size=100, threads=2)
    admission.admit("a", 50, 50, 0.0, 0.001)  # nothing is known yet: let it try
    for _ in range(200):
        served(admission, "a", 0.1)
    # 8 before it: 0.4 s of waiting, 0.1 s of work, a quarter more
    assert admission.admit("a", 20, 8, 0.8, left_s=0.64) == pytest.approx(0.5)
    with pytest.raises(QueueFull, match=r"625 ms.*600 ms.*X-Request-Timeout-Ms") as caught:
        admission.admit("a", 20, 8, 0.8, left_s=0.6)
    assert caught.value.retry_after_s == pytest.approx(0.025)


def test_a_quick_model_is_not_judged_by_a_slow_one():
    admission = Admission(queue_size=100, threads=1)
    for _ in range(200):
        served(admission, "slow", 2.0)
        served(admission, "quick", 0.002)
    admission.admit("quick", 0, 0, 0.0, left_s=0.01)
    admission.check("quick", 0.01)
    with pytest.raises(QueueFull):
        admission.admit("slow", 0, 0, 0.0, left_s=1.0)
    with pytest.raises(DeadlineExceeded):
        admission.check("slow", 1.0)


def test_what_waited_past_its_time_is_dropped_before_inference():
    admission = Admission(queue_size=100, threads=1)
    admission.check("a", 0)
    with pytest.raises(DeadlineExceeded):
        admission.check("a", -0.001)  # also where nothing is known
    served(admission, "a", 0.1)
    admission.check("a", 0.2)
    with pytest.raises(DeadlineExceeded, match=r"50 ms.*100 ms") as caught:
        admission.check("a", 0.05)
    assert caught.value.status == 504


def test_a_server_that_was_frozen_answers_again(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    admission = Admission(queue_size=100, threads=1)
    served(admission, "a", 0.01)
    served(admission, "a", 600)  # frozen inside a request
    for _ in range(2):
        with pytest.raises(QueueFull, match="its deadline is in 10000 ms"):
            admission.admit("a", 0, 0, 0.0, left_s=10)
        with pytest.raises(DeadlineExceeded):
            admission.check("a", 10)
        now += 30
    now += 1  # twice its service time has passed without anybody served
    admission.admit("a", 0, 0, 0.0, left_s=10)
    admission.check("a", 10)
    served(admission, "a", 0.01)
    admission.admit("a", 0, 0, 0.0, left_s=0.02)


def test_a_kind_that_is_new_does_not_pass_by_those_that_wait():
    admission = Admission(queue_size=100, threads=1)
    with pytest.raises(QueueFull):
        admission.admit("new", 10, 10, 5.0, left_s=1.0)


def test_clients_cannot_make_it_remember_without_end():
    admission = Admission(queue_size=100, threads=1)
    for number in range(5000):
        served(admission, f"/{number}", 0.1)
    assert len(admission._kinds) <= 256
    assert admission.service_s("/4999") == 0.1
    assert admission.service_s("/1") == 0.0


def test_the_margin_follows_how_late_requests_of_a_kind_are_and_comes_back():
    admission = Admission(queue_size=100, threads=1)
    for kind in "ab":
        served(admission, kind, 0.01)
    with pytest.raises(QueueFull):
        admission.admit("a", 16, 16, 0.16, left_s=0.2)
    expected_s = admission.admit("a", 14, 14, 0.14, left_s=0.2)
    for _ in range(50):
        admission.answered("a", expected_s, 1.9 * expected_s, 0.2)
    with pytest.raises(QueueFull):
        admission.admit("a", 10, 10, 0.10, left_s=0.2)
    admission.admit("b", 14, 14, 0.14, left_s=0.2)  # the other kind was never late
    for _ in range(5000):
        admission.answered("a", expected_s, expected_s, 0.2)
    admission.admit("a", 17, 17, 0.17, left_s=0.2)


@pytest.mark.parametrize(("swing", "unseen"), [(0.05, 0), (0.2, 0), (0.5, 0), (0.2, 0.6)])
def test_accepted_requests_keep_their_deadline_on_a_machine_whose_speed_swings(swing, unseen):
    """A queue of one thread that is offered three times what it can do, simulated.

    Beside what a request takes its thread there is, in the last case, time that nobody measures.
    """
    chance = random.Random(7)  # noqa: S311
    admission = Admission(queue_size=64, threads=1)
    clock, arrivals, speed, deadline_s = 0.0, 0.0, 1.0, 0.2
    queue: list[tuple[float, float]] = []
    late = good = 0
    busy_s = 0.0
    while clock < 100:
        if chance.random() < 0.02:
            speed = 1 + swing * (2 * chance.random() - 1)
        while arrivals <= clock:
            try:
                ahead_s = len(queue) * admission.service_s("a")
                expected_s = admission.admit("a", len(queue), len(queue), ahead_s, deadline_s)
                queue.append((arrivals, expected_s))
            except QueueFull:
                pass
            arrivals += chance.expovariate(3 / 0.005)
        if not queue:
            clock = arrivals
            continue
        arrived, expected_s = queue.pop(0)
        try:
            admission.check("a", arrived + deadline_s - clock)
        except DeadlineExceeded:
            continue
        took_s = 0.005 * speed * (1 + 0.1 * chance.random())
        clock += took_s * (1 + unseen)
        served(admission, "a", took_s)
        admission.answered("a", expected_s, clock - arrived, deadline_s)
        if clock > 20:
            busy_s += took_s * (1 + unseen)
            if clock - arrived > deadline_s:
                late += 1
            else:
                good += 1
    assert late / (late + good) < 0.03
    assert busy_s > 0.95 * (clock - 20)  # and it is not by refusing what could have been answered


def test_what_is_refused_before_it_is_known_would_be_refused_whatever_it_were():
    dice, early, late = random.Random(5), 0, 0  # noqa: S311
    for _ in range(400):
        admission = Admission(queue_size=20, threads=dice.choice([1, 2, 8]))
        for kind in "abc"[: dice.randrange(4)]:
            for _ in range(30):
                served(admission, kind, dice.choice([0.001, 0.01, 0.1]) * dice.random())
                admission.answered(kind, 1.0, dice.choice([0.5, 5.0]), 1.0)
        waiting = dice.randrange(24)
        state = (waiting, waiting, waiting * 0.02 * dice.random(), 0.2 * dice.random())
        refused = []
        for kind in ("a", "b", "c", "new"):
            try:
                admission.admit(kind, *state)
                refused.append(False)
            except QueueFull:
                refused.append(True)
        late += all(refused)
        try:
            admission.expect_room(*state)
        except QueueFull as error:
            early += 1
            assert all(refused), state
            assert error.retry_after_s >= 0
    assert early == late > 50


def test_a_time_learned_long_ago_refuses_nothing_before_it_is_known():
    admission = Admission(queue_size=20, threads=1)
    served(admission, "a", 0.1)
    for _ in range(400):  # its expectations are right
        admission.answered("a", 1.0, 0.5, 1.0)
    with pytest.raises(QueueFull, match=r"112 ms.*100 ms"):
        admission.expect_room(1, 1, 0.09, left_s=0.1)
    admission.served("a", 0.1, time.monotonic() - 60)  # the process was frozen
    admission.expect_room(1, 1, 0.09, left_s=0.1)
