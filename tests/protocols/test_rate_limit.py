"""Token buckets: exact over processes, apart for clients, never a leak of memory."""

import os

import pytest

from cpuserve.errors import RateLimited
from cpuserve.protocols.rate_limit import RateLimit


def passed(limit, client, at, tries=100):
    count = 0
    for _ in range(tries):
        try:
            limit.take(client, at)
        except RateLimited:
            continue
        count += 1
    return count


def test_a_burst_then_the_rate():
    limit = RateLimit(per_second=10, burst=5)
    assert passed(limit, "a", 100.0) == 5
    assert passed(limit, "a", 100.35) == 3
    assert passed(limit, "a", 200.0) == 5
    with pytest.raises(RateLimited, match=r"10 requests a second.*rate_limit") as caught:
        limit.take("a", 200.0)
    assert caught.value.retry_after_s == pytest.approx(0.1)
    assert caught.value.status == 429


def test_clients_do_not_pay_for_each_other():
    limit = RateLimit(per_second=1, burst=2)
    assert [passed(limit, f"10.0.0.{i}", 5.0) for i in range(50)] == [2] * 50


def test_processes_share_the_buckets():
    limit = RateLimit(per_second=1, burst=50)
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            os._exit(passed(limit, "a", 7.0, 30))
        children.append(child)
    counts = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert sum(counts) == 50


def test_more_clients_than_places_forget_the_oldest():
    limit = RateLimit(per_second=1, burst=1)
    for i in range(20_000):
        limit.take(str(i), i / 1000)
    assert passed(limit, "19999", 20.0, 1) == 0


def test_zero_limits_nothing():
    assert passed(RateLimit(0, 1), "a", 1.0) == 100
