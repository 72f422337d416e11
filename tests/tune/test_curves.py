"""The Pareto front and the curves over batch and cores, on made trials."""

from __future__ import annotations

from cpuserve.tune.curves import batch_curve, cores_curve, front
from cpuserve.tune.objective import METRICS
from cpuserve.tune.trial import Point
from tests.tune.made_trials import figures, trials

THROUGHPUT = METRICS["throughput"]


def test_the_front_has_what_nothing_beats():
    made = trials(
        ({}, figures(100, p99_ms=10)),
        ({"a": 1}, figures(90, p99_ms=12)),  # beaten in both
        ({"a": 2}, figures(150, p99_ms=30)),
        ({"a": 3}, figures(150, p99_ms=31)),  # as fast, later
        ({"a": 4}, figures(60, p99_ms=5)),
        ({"a": 5}, "failed"),
    )
    assert front(made) == [4, 0, 2]
    assert front(trials(({}, "failed"))) == []


def test_the_batch_curve_keeps_everything_else_alike_where_it_can():
    made = trials(
        ({"threads": 2}, figures(100)),
        ({"threads": 2, "max_batch": 1}, figures(80)),
        ({"threads": 2, "max_batch": 16}, figures(120)),
        ({"threads": 2, "max_batch": 16}, figures(125)),
        ({"threads": 4, "max_batch": 32}, figures(500)),
    )
    curve = batch_curve(made, Point.of({"threads": 2, "max_batch": 16}), 8, THROUGHPUT)
    assert curve.alike
    assert [(spot.x, spot.figures.images_per_s) for spot in curve.spots] == [(1, 80), (8, 100), (16, 125)]


def test_two_values_alike_are_too_few_where_there_are_more():
    made = trials(
        ({}, figures(100)), ({"max_batch": 1}, figures(80)), ({"threads": 4, "max_batch": 32}, figures(50))
    )
    assert not batch_curve(made, Point(), 8, THROUGHPUT).alike
    assert batch_curve(made[:2], Point(), 8, THROUGHPUT).alike


def test_else_the_curve_is_of_the_best():
    made = trials(
        ({"threads": 2, "max_batch": 1}, figures(80)),
        ({"threads": 4, "max_batch": 1}, figures(90)),
        ({"threads": 4, "max_batch": 32}, figures(500)),
    )
    curve = batch_curve(made, Point.of({"threads": 8}), 8, THROUGHPUT)
    assert not curve.alike
    assert [(spot.x, spot.trial) for spot in curve.spots] == [(1, 1), (32, 2)]
    assert batch_curve(made[:2], Point(), 8, THROUGHPUT).spots == ()


def test_cores_of_a_worker_are_said_or_shared_out():
    made = trials(
        ({}, figures(400, facts={"workers": 2})),
        ({"workers": 8}, figures(500)),
        ({"cores_per_worker": 8}, figures(200)),
        ({"workers": 1, "cores_per_worker": 1}, figures(60)),  # leaves seven cores idle
        ({"workers": 4, "cores_per_worker": 2, "threads": 2}, figures(450)),
        ({"workers": 3, "cores_per_worker": 3}, "does not fit"),
        ({"threads": 3}, figures(1)),  # nothing says
    )
    curve = cores_curve(made, Point.of({"workers": 8}), 8, THROUGHPUT)
    assert curve.alike
    assert [(spot.x, spot.figures.images_per_s) for spot in curve.spots] == [
        (1, 500),
        (2, 450),
        (4, 400),
        (8, 200),
    ]
