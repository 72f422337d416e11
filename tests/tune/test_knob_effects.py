"""Effects of knobs on made trials: pairs, regression, noise and every verdict."""

from __future__ import annotations

import itertools
import math

import pytest

from cpuserve.tune.knob_effects import DEFAULT, effects, repeat_noise
from cpuserve.tune.objective import METRICS
from tests.tune.made_trials import figures, trials

THROUGHPUT, LATENCY = METRICS["throughput"], METRICS["latency"]


def of(found, knob):
    return next(one for one in found if one.knob == knob)


def test_a_pair_beyond_its_noise_helps_or_harms():
    found = effects(
        trials(
            ({}, figures(100)),
            ({"max_batch": 16}, figures(112)),
            ({"max_batch": 32}, figures(80)),
        ),
        THROUGHPUT,
        {},
    )
    batch = of(found, "max_batch")
    assert [(one.value, one.against, one.kind, one.method) for one in batch.values] == [
        (16, DEFAULT, "helps", "pairs"),
        (32, DEFAULT, "harmful", "pairs"),
    ]
    assert batch.words == "helps +12.0 %"
    assert batch.values[1].words == "harmful -20.0 %"


def test_less_latency_helps():
    found = effects(trials(({}, figures(p99_ms=20)), ({"threads": 1}, figures(p99_ms=15))), LATENCY, {})
    assert of(found, "threads").words == "helps -25.0 %"


def test_within_the_windows_spread_it_is_no_effect():
    found = effects(
        trials(({}, figures(100, noise=0.06)), ({"threads": 2}, figures(104, noise=0.08))), THROUGHPUT, {}
    )
    assert of(found, "threads").words == "no effect (within noise 5.0 %)"  # hypot(6, 8) / 2


def test_drift_between_the_defaults_is_noise_of_everything():
    made = trials(
        ({}, figures(100), "default"),
        ({"max_batch": 16}, figures(108)),
        ({}, figures(90), "default-again"),
    )
    assert repeat_noise(made, THROUGHPUT) == pytest.approx(100 / 90 - 1)
    assert of(effects(made, THROUGHPUT, {}), "max_batch").values[0].kind == "no effect"


def test_pairs_that_disagree_depend_on_the_rest():
    made = trials(
        ({}, figures(100)),
        ({"a": 1}, figures(120)),
        ({"b": 1}, figures(100)),
        ({"a": 1, "b": 1}, figures(70)),
    )
    found = of(effects(made, THROUGHPUT, {}), "a")
    assert found.values[0].pairs == 2
    assert found.words == "depends on the other settings (-30.0 to +20.0 %)"


def test_a_grid_without_defaults_is_compared_within_itself():
    rows = [({"a": a, "b": b}, figures(100 + 20 * a)) for a in (1, 2) for b in (1, 2)]
    found = effects(trials(({}, figures(100)), *rows), THROUGHPUT, {})
    seen = [(one.value, one.against, one.kind, one.pairs) for one in of(found, "a").values]
    assert (2, 1, "helps", 2) in seen
    assert of(found, "b").values[0].kind == "no effect"


def test_without_pairs_a_regression_tells_them_apart():
    # a Latin square: no two trials differ in one knob only; a is worth 20 %, b nothing
    rows = [
        (
            {"a": a, "b": b, "c": (a + b) % 3},
            figures(100 * 1.2 ** (a == 1) * 0.9 ** (a == 2) * (1 + 0.001 * ((a + 2 * b) % 3))),
        )
        for a, b in itertools.product(range(3), range(3))
    ]
    found = effects(trials(*rows), THROUGHPUT, {})
    by_value = {one.value: one for one in of(found, "a").values}
    assert {one.method for one in by_value.values()} == {"regression"}
    assert by_value[1].change == pytest.approx(0.2, abs=0.01)
    assert by_value[1].kind == "helps"
    assert by_value[2].kind == "harmful"
    assert {one.kind for one in of(found, "b").values} == {"no effect"}


def test_what_only_came_together_is_not_told_apart():
    made = trials(
        ({"a": 0, "b": 0}, figures(100)),
        ({"a": 0, "b": 0}, figures(101)),
        ({"a": 0, "b": 0}, figures(99)),
        ({"a": 1, "b": 1}, figures(150)),
    )
    found = effects(made, THROUGHPUT, {})
    assert [one.words for one in found] == ["not told apart"] * 2
    assert math.isnan(found[0].values[0].change)


def test_failures_and_what_was_not_tried_are_named():
    made = trials(
        ({}, figures()),
        ({"workers": 9}, "not enough cores"),
        ({"precision": "f32"}, figures()),
    )
    found = effects(made, THROUGHPUT, {"env.OMP_NUM_THREADS": "no OpenMP runtime is mapped"})
    assert of(found, "workers").words == "failed: not enough cores"
    assert of(found, "env.OMP_NUM_THREADS").words == "not tried (no OpenMP runtime is mapped)"
    assert found[-1].knob == "env.OMP_NUM_THREADS"


def test_a_knob_with_one_value_was_not_tried():
    made = trials(({"precision": "f32"}, figures()), ({"precision": "f32", "threads": 2}, figures()))
    assert of(effects(made, THROUGHPUT, {}), "precision").words == "not tried (only one value was tried)"


def test_the_largest_effect_is_first():
    made = trials(
        ({}, figures(100)), ({"a": 1}, figures(101)), ({"b": 1}, figures(150)), ({"c": 1}, figures(80))
    )
    assert [one.knob for one in effects(made, THROUGHPUT, {})] == ["b", "c", "a"]


def test_nothing_worked():
    assert effects(trials(({}, "no")), THROUGHPUT, {}) == []
    found = effects(trials(({"a": 1}, "no")), THROUGHPUT, {})
    assert found[0].words == "not tried (every trial with it failed)"
