"""What a worker holds of bodies: it grows with what comes, is bounded, and is given back on every way out."""

from __future__ import annotations

import random

import pytest

from cpuserve.errors import BodiesTooLarge
from cpuserve.protocols.body_budget import BodyBudget, BodyShare, SizedBody

MIB = 1 << 20


def test_over_the_limit_nothing_is_taken_and_the_setting_is_named():
    budget = BodyBudget(3200)
    one, two = BodyShare(budget), BodyShare(budget)
    one.take(2000)
    with pytest.raises(BodiesTooLarge, match=r"2500 bytes.*2400 bytes.*max_unfinished_body_bytes") as caught:
        two.take(500)
    assert (caught.value.status, caught.value.retry_after_s) == (503, 1.0)
    assert (budget.held, two.held) == (2000, 0)
    one.release()
    one.release()
    two.take(2400)
    assert budget.held == 2400


def test_what_is_small_depends_on_the_budget():
    large, small = (BodyShare(budget) for budget in [BodyBudget(3200)] for _ in range(2))
    large.take(2400)
    small.take(100)
    with pytest.raises(BodiesTooLarge, match="large one"):
        small.take(1)


def test_large_bodies_leave_room_for_small_ones():
    budget = BodyBudget(40 * MIB)
    large, small = [BodyShare(budget) for _ in range(3)], BodyShare(budget)
    large[0].take(15 * MIB)
    large[1].take(15 * MIB)
    with pytest.raises(BodiesTooLarge, match="large one"):
        large[2].take(MIB + 1)
    small.take(MIB)
    with pytest.raises(BodiesTooLarge):
        small.take(1)  # it is no small one any more
    large[0].release()
    small.take(1)
    assert budget.held == 16 * MIB + 1


def test_a_promised_length_takes_nothing_until_bytes_come():
    budget = BodyBudget(64 * MIB)
    body = SizedBody(32 * MIB, memoryview(b"x" * 10), BodyShare(budget))
    assert (budget.held, len(body.data)) == (0, 10)
    body.room(MIB).release()
    assert budget.held == len(body.data) == 128 << 10


def test_a_body_grows_to_its_length_with_its_bytes_in_place():
    random_ = random.Random(3)  # noqa: S311  # the same on every run
    length = 3 * MIB + 7
    sent = random_.randbytes(length)
    share = BodyShare(BodyBudget(2 * length))
    body, at = SizedBody(length, memoryview(sent[:100]), share), 100
    while not body.whole:
        assert len(body.data) <= max(128 << 10, 2 * at)
        with body.room(MIB) as room:
            count = min(len(room), random_.randint(1, 200_000))
            room[:count] = sent[at : at + count]
        body.filled(count)
        at += count
    assert body.data == sent
    assert share.held == length


def test_a_usual_picture_has_room_at_once():
    body = SizedBody(84_000, memoryview(b"x" * 5_000), BodyShare(BodyBudget(MIB)))
    with body.room(MIB) as room:
        assert len(room) == 79_000
