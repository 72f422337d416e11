"""Plans: the formula, the knee and the bottleneck, and the published table beside them."""

from __future__ import annotations

import pytest

from cpuserve.errors import UsageError
from cpuserve.video.published_times import TIMES_S, compare_published, fitted_times
from cpuserve.video.replica_plan import formula_s, plan_replicas
from cpuserve.video.simulation import Fleet, FrameTimes


def test_the_formula_is_the_published_one():
    times = FrameTimes(0.015, [0.08], 0.2)
    # T_n + T_cq + (N_R - N_S) / N_S * T_sc + T_sc
    assert formula_s(120, 4, times) == pytest.approx(0.2 + 120 * 0.015 + (120 - 4) / 4 * 0.08 + 0.08)


def test_a_plan_has_a_run_for_every_pair():
    plan = plan_replicas([50, 500], [1, 2, 4, 8], FrameTimes(0.015, [0.08]), Fleet(1))
    assert [(run.frames, run.replicas) for run in plan.runs] == [
        (frames, replicas) for frames in (50, 500) for replicas in (1, 2, 4, 8)
    ]
    last = plan.runs[4:]
    assert [run.bottleneck for run in last] == ["replicas", "replicas", "replicas", "client"]
    assert plan.balance == pytest.approx(0.08 / 0.015)
    assert plan.knee == 8  # 4 are slower than the client
    assert all(run.makespan_s < run.formula_s for run in plan.runs)


def test_beyond_the_knee_replicas_bring_nothing():
    plan = plan_replicas([500], [1, 2, 4, 8], FrameTimes(0.045, [0.08]), Fleet(1))
    assert plan.knee == 2


def test_a_share_of_the_frames_loads_the_replicas_less():
    whole, tenth = (
        plan_replicas([1000], [1], FrameTimes(0.001, [0.08]), Fleet(1), share=share).runs[0]
        for share in (1.0, 0.1)
    )
    assert (whole.requests, tenth.requests) == (1000, 100)
    assert tenth.makespan_s == pytest.approx(whole.makespan_s / 10, rel=0.05)
    slow = plan_replicas([1000], [1], FrameTimes(0.020, [0.08]), Fleet(1), share=0.1).runs[0]
    assert slow.makespan_s == pytest.approx(1000 * 0.020, rel=0.02)  # the client makes all frames


@pytest.mark.parametrize(("frames", "share"), [(10, 0.001), (50, 0.03), (3, 0.5)])
def test_the_client_makes_all_frames_where_few_or_none_go_to_the_replicas(frames, share):
    (run,) = plan_replicas([frames], [1], FrameTimes(0.020, [1e-6]), Fleet(1), share=share).runs
    assert run.makespan_s == pytest.approx(frames * 0.020, rel=0.001)
    assert run.formula_s == pytest.approx(frames * 0.020, rel=0.001)


def test_it_is_said_where_formula_and_simulation_differ_and_why():
    times = FrameTimes(0.015, [0.08])
    plan = plan_replicas([500], [1, 8], times, Fleet(1))
    off = [round(100 * (run.formula_s / run.makespan_s - 1)) for run in plan.runs]
    (said,) = plan.findings
    assert f"{min(off):+} to {max(off):+} %" in said
    few = plan_replicas([1, 500], [4], times, Fleet(1))
    assert few.runs[0].formula_s < 0.08 < few.runs[0].makespan_s
    assert any("fewer than replicas" in finding for finding in few.findings)
    fleet = Fleet(1, at_once=2, policy="random", shares_cores=True)
    assert len(plan_replicas([50], [2], times, fleet).findings) == 4


def test_more_than_can_be_simulated_is_refused():
    with pytest.raises(UsageError, match="1000000 frames and 1000 replicas take too long"):
        plan_replicas([1_000_000], [1000], FrameTimes(0.015, [0.08]), Fleet(1))


def test_cores_that_are_shared_are_named_as_the_bottleneck():
    plan = plan_replicas([500], [2], FrameTimes(0.005, [0.01]), Fleet(1, shares_cores=True))
    assert plan.runs[0].bottleneck == "cores"


def test_the_fit_of_the_published_table():
    times = fitted_times()
    assert (times.client_s, times.service_s[0]) == pytest.approx((1.36, 1.64), abs=0.01)


def test_the_published_table_beside_formula_and_simulation():
    found = compare_published()
    assert len(found.cells) == sum(map(len, TIMES_S.values())) == 20
    worst = max(abs(cell.fitted_s / cell.published_s - 1) for cell in found.cells)
    assert worst == pytest.approx(0.094, abs=0.002)
    largest = next(cell for cell in found.cells if (cell.frames, cell.servers) == (5000, 1))
    assert largest.as_published_s == pytest.approx(2424, abs=1)
    assert largest.published_s == 1692
    assert largest.simulated_s < 0.6 * largest.published_s  # a client that overlaps is done sooner
    assert len(found.findings) == 4
    assert "2424 s" in found.findings[0]
