"""Bounds on events: right as often as they say, and tight where nothing is wrong."""

import numpy as np
import pytest

from cpuserve.errors import UsageError
from cpuserve.video.guarantee import (
    Budgets,
    ErrorBound,
    EventErrors,
    expected_growth,
    planned_stake,
    upper_bound,
)
from cpuserve.video.windows import clopper_pearson

ALPHA = 0.05


def events(sizes, wrong):
    return EventErrors(np.asarray(sizes), np.asarray(wrong))


def drawn(generator, count, rate, longest):
    """Events that are wholly wrong at this rate, longer ones more often."""
    sizes = generator.integers(1, longest + 1, count)
    lost = generator.random(count) < rate * sizes / longest
    return events(sizes, sizes * lost)


def true_rate(rate, longest):
    sizes = np.arange(1, longest + 1)
    return float((rate * sizes / longest * sizes).sum() / sizes.sum())


@pytest.mark.parametrize(("longest", "rate"), [(1, 0.02), (1, 0.1), (8, 0.02), (8, 0.1), (60, 0.1)])
def test_bounds_are_right_as_often_as_they_say_however_errors_come_together(longest, rate):
    generator = np.random.default_rng(longest)
    broken, naive, runs, true = 0, 0, 400, true_rate(rate, longest)
    for _ in range(runs):
        pilot, proof = drawn(generator, 60, rate, longest), drawn(generator, 250, rate, longest)
        stake = planned_stake(pilot, longest, proof.windows, ALPHA)
        broken += upper_bound(proof, longest, stake, ALPHA) < true
        naive += clopper_pearson(proof.errors, proof.windows, 1 - 2 * ALPHA)[1] < true
    # 400 draws at 5 %: more than 32 would come up once in 200 times
    assert broken <= 32
    if longest > 1:
        assert naive > 40  # windows are not independent: the exact bound over windows is broken


def test_without_errors_the_bound_is_clopper_pearsons():
    right = events(np.ones(200, int), np.zeros(200, int))
    assert upper_bound(right, 1, 1.0, ALPHA) == pytest.approx(clopper_pearson(0, 200, 0.9)[1])
    assert upper_bound(right, 1, 0.0, ALPHA) == pytest.approx(clopper_pearson(0, 200, 0.9)[1])
    # events of five windows tell as much as so many of one
    long = events(np.full(200, 5), np.zeros(200, int))
    assert upper_bound(long, 5, 1.0, ALPHA) == pytest.approx(clopper_pearson(0, 200, 0.9)[1])


def test_the_stake_is_planned_on_what_went_wrong_before():
    right, some = events(np.full(50, 4), np.zeros(50, int)), events(np.full(50, 4), [4, 4] + [0] * 48)
    assert planned_stake(right, 4, 2000, ALPHA) == 1.0
    assert 0 < planned_stake(some, 4, 2000, ALPHA) < 1
    assert planned_stake(events([], []), 4, 2000, ALPHA) == 1.0
    single = events(np.ones(100, int), [1, 1, 1] + [0] * 97)
    assert ErrorBound.of(single, 1, planned_stake(single, 1, 1000, ALPHA), ALPHA).method == "Clopper-Pearson"


def test_of_nothing_nothing_is_bounded():
    assert upper_bound(events([], []), 5, 1.0, ALPHA) == pytest.approx(1.0)
    assert upper_bound(events([5] * 3, [5] * 3), 5, 0.5, ALPHA) == pytest.approx(1.0)
    assert expected_growth(np.zeros(0), 0, 5, 0.02) == 0.0


def test_events_end_where_the_label_changes_the_stretch_ends_or_they_get_long():
    truth = np.array([1, 1, 1, 1, 1, 0, 0, 1, 1, 1], bool)
    labels = np.array([1, 0, 1, 1, 0, 0, 1, 1, 1, 0], bool)
    stretch = np.array([0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    positive = EventErrors.of(truth, labels, stretch, 3, positive=True)
    assert positive.sizes.tolist() == [3, 2, 2, 1]
    assert positive.wrong.tolist() == [1, 1, 0, 1]
    negative = EventErrors.of(truth, labels, stretch, 10, positive=False)
    assert (negative.sizes.tolist(), negative.wrong.tolist(), negative.rate) == ([2], [1], 0.5)
    assert EventErrors.of(truth[:0], labels[:0], stretch[:0], 3, positive=True).rate is None


def test_as_many_events_as_expected_are_enough():
    sizes = np.full(40, 4)
    gain = expected_growth(sizes, 0, 4, 0.02)
    needed = int(np.ceil(40 * -np.log(ALPHA) / gain))
    enough = events(np.full(needed, 4), np.zeros(needed, int))
    assert upper_bound(enough, 4, 1.0, ALPHA) <= 0.02
    assert upper_bound(events(enough.sizes[:-2], enough.wrong[:-2]), 4, 1.0, ALPHA) > 0.02
    assert expected_growth(sizes, 12 / 160, 4, 0.02) <= 0  # no length will do


@pytest.mark.parametrize("given", [{"fn": 0.0}, {"fp": 1.0}, {"confidence": 95.0}, {"fn": float("nan")}])
def test_budgets_out_of_range_are_refused(given):
    with pytest.raises(UsageError, match=f"{next(iter(given))} is above 0 and below 1"):
        Budgets(**{"fn": 0.01, "fp": 0.01, **given})
