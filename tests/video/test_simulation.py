"""The simulation against what can be worked out by hand, and against runs that were measured."""

from __future__ import annotations

import pytest

from cpuserve.video.simulation import Fleet, FrameTimes, simulate

# 120 frames, 80 ms each in servers that only sleep, 15 ms apart: seconds with a random balancer and by the
# fewest outstanding
MEASURED = {1: (9.70, 9.71), 2: (4.91, 4.88), 4: (2.91, 2.52), 8: (2.09, 1.97)}
TIMES = FrameTimes(0.015, [0.080])


@pytest.mark.parametrize("replicas", MEASURED)
def test_it_is_near_measured_runs(replicas):
    by_chance, fewest = MEASURED[replicas]
    runs = [simulate(120, TIMES, Fleet(replicas, policy="random"), seed).makespan_s for seed in range(20)]
    assert sum(runs) / len(runs) == pytest.approx(by_chance, rel=0.1)
    found = simulate(120, TIMES, Fleet(replicas, in_flight=1000))
    assert found.makespan_s == pytest.approx(fewest, rel=0.06)


def test_one_replica_works_through_all_frames():
    found = simulate(10, FrameTimes(0.001, [0.1], 0.02), Fleet(1))
    assert found.makespan_s == pytest.approx(0.001 + 0.02 + 10 * 0.1)
    assert found.latencies_s[0] == pytest.approx(0.12)
    assert found.replicas_busy[0] == pytest.approx(1.0 / found.makespan_s)


def test_a_slow_client_is_what_takes_the_time():
    found = simulate(50, FrameTimes(0.1, [0.01]), Fleet(4))
    assert found.makespan_s == pytest.approx(50 * 0.1 + 0.01)
    assert found.client_busy == pytest.approx(5 / found.makespan_s)
    assert found.latency_s(0.99) == pytest.approx(0.01)


def test_without_overlap_it_is_the_sum():
    found = simulate(40, FrameTimes(0.05, [0.2]), Fleet(4, overlaps=False))
    assert found.makespan_s == pytest.approx(40 * 0.05 + 40 / 4 * 0.2)


def test_shared_cores_do_all_the_work_between_them():
    found = simulate(1000, FrameTimes(0.005, [0.010]), Fleet(2, shares_cores=True))
    assert found.makespan_s == pytest.approx(1000 * 0.015 / 2, rel=0.01)
    apart = simulate(1000, FrameTimes(0.005, [0.010]), Fleet(2))
    assert apart.makespan_s == pytest.approx(1000 * 0.010 / 2, rel=0.01)


def test_several_at_once_share_nothing_but_the_client():
    found = simulate(100, FrameTimes(0.001, [0.1]), Fleet(1, at_once=4, in_flight=8))
    assert found.makespan_s == pytest.approx(100 / 4 * 0.1, rel=0.02)


def test_a_window_bounds_the_latency_and_costs_no_time():
    wide = simulate(200, FrameTimes(0.001, [0.05]), Fleet(2))
    narrow = simulate(200, FrameTimes(0.001, [0.05]), Fleet(2, window=8))
    assert narrow.makespan_s == pytest.approx(wide.makespan_s, rel=0.02)
    assert narrow.latency_s(0.99) <= 8 / 2 * 0.05 + 0.001 < wide.latency_s(0.99)


def test_times_are_drawn_and_equal_seeds_draw_the_same():
    times = FrameTimes(0.001, [0.01, 0.03])
    found = [simulate(2000, times, Fleet(1), seed).makespan_s for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    assert found[0] == pytest.approx(2000 * 0.02, rel=0.05)


def test_the_fewest_outstanding_beat_chance():
    by_chance = simulate(500, TIMES, Fleet(6, policy="random"), 3)
    fewest = simulate(500, TIMES, Fleet(6, in_flight=1000), 3)
    assert fewest.latency_s(0.99) < by_chance.latency_s(0.99) / 2


def test_a_client_that_takes_no_time_is_no_trouble():
    assert simulate(10, FrameTimes(0.0, [0.1]), Fleet(5)).makespan_s == pytest.approx(0.2)
