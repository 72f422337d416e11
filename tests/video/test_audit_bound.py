"""The bounds of an audit: right at any time, on any order of errors; and how soon they find too many."""

import math

import numpy as np
import pytest

from cpuserve.errors import UsageError
from cpuserve.video.audit_bound import AuditBound, AuditMonitor, AuditState, detection_samples

ALPHA = 0.1


def clustered(generator, labels, rate, length):
    """Which labels are wrong: at this rate, in clusters of this length."""
    starts = generator.random(labels) < rate / length
    return np.convolve(starts, np.ones(length), "full")[:labels] > 0


def sampled(generator, wrong):
    """The probability of each label, higher where errors are likelier, and which are checked."""
    uncertain = generator.random(len(wrong)) < np.where(wrong, 0.6, 0.05)
    probability = np.where(uncertain, 0.15, 0.02)
    return probability, generator.random(len(wrong)) < probability


def test_both_bounds_hold_at_every_time_whatever_the_order_of_errors():
    generator = np.random.default_rng(1)
    runs, too_low, too_high = 150, 0, 0
    for _ in range(runs):
        wrong = clustered(generator, 4000, 0.05, length=40)
        if generator.random() < 0.5:
            wrong = np.sort(wrong)[:: generator.choice([1, -1])]  # all errors last, or first
        probability, checked = sampled(generator, wrong)
        bound, low, high = AuditBound(ALPHA, 0.02), False, False
        share = np.cumsum(wrong) / np.arange(1, len(wrong) + 1)
        for place in np.flatnonzero(checked):
            bound.add(wrong=bool(wrong[place]), probability=float(probability[place]))
            true = float(min(share[place], 1 - 1e-6))
            low |= bound.evidence_above(true) > math.log(1 / ALPHA)
            high |= bound.evidence_below(true) > math.log(1 / ALPHA)
        too_low, too_high = too_low + low, too_high + high
    assert too_low <= ALPHA * runs
    assert too_high <= ALPHA * runs


@pytest.mark.parametrize("share", [0.01, 0.05])
def test_the_evidence_for_what_is_true_does_not_grow_on_average(share):
    # the mean of the product, over what may be checked of one right and of one wrong label
    probability = 0.03
    for of_wrong, sign in ((True, 1), (False, 1), (True, -1), (False, -1)):
        bound = AuditBound(ALPHA, probability)
        bound.add(wrong=of_wrong, probability=probability)
        evidence = bound.evidence_above(share) if sign > 0 else bound.evidence_below(share)
        # one label alone is all wrong or all right, so that the share is 1 or 0
        true_hypothesis = of_wrong if sign < 0 else not of_wrong
        mean = probability * math.exp(evidence) + (1 - probability)
        assert (mean <= 1 + 1e-12) == true_hypothesis


def test_bounds_close_in_on_the_share():
    generator = np.random.default_rng(2)
    wrong = clustered(generator, 60_000, 0.06, length=1)
    probability, checked = sampled(generator, wrong)
    bound = AuditBound(ALPHA, 0.02)
    for place in np.flatnonzero(checked):
        bound.add(wrong=bool(wrong[place]), probability=float(probability[place]))
    rate, true = bound.rate, wrong.mean()
    assert rate.low < true < rate.high
    assert rate.high - rate.low < 0.05
    assert rate.value == pytest.approx(true, abs=0.012)
    assert rate.checked == np.count_nonzero(checked)


def test_no_error_among_many_bounds_the_share_as_the_rule_of_three_does():
    bound = AuditBound(0.05, 0.01)
    bound.add(wrong=False, probability=0.01, count=300)
    assert bound.rate.low == 0
    assert 3 / 300 < bound.rate.high < 4.5 / 300


def test_labels_of_the_reference_count_without_any_doubt():
    bound = AuditBound(0.05, 0.01)
    bound.add(wrong=False, probability=0.01, count=300)
    before = bound.rate.high
    bound.add(wrong=False, probability=1.0, count=30_000)  # as many as the 300 stand for
    assert bound.rate.high == pytest.approx(before / 2, rel=0.02)
    assert bound.rate.checked == 300


def test_nothing_checked_bounds_nothing():
    rate = AuditBound(0.05, 0.01).rate
    assert (rate.low, rate.value, rate.high) == (0.0, None, 1.0)


def audit(monitor, generator, rate, most):
    """Checks positives until the budget is found broken; how many that took, or None."""
    for place in range(most):
        monitor.add(label=bool(generator.random() >= rate), truth=True, probability=0.01)
        if monitor.broken:
            return place + 1
    return None


def test_a_doubled_rate_is_found_within_the_stated_number_of_samples():
    generator = np.random.default_rng(3)
    stated = detection_samples(0.05, 0.1, 0.95)
    assert stated < 500
    found = []
    for _ in range(30):
        monitor = AuditMonitor(0.05, 0.05, 0.95, 0.01)
        assert audit(monitor, generator, 0.02, stated) is None  # kept for a while
        found.append(audit(monitor, generator, 0.1, 3 * stated))
    assert None not in found
    assert sum(count <= 2 * stated for count in found) >= 27
    assert np.median(found) <= 1.2 * stated


def test_a_budget_that_is_just_kept_gives_no_alarm():
    generator = np.random.default_rng(4)
    alarms = sum(
        audit(AuditMonitor(0.05, 0.05, 0.95, 0.01), generator, 0.05, 2000) is not None for _ in range(40)
    )
    assert alarms <= 2


def test_a_verdict_says_which_budget_and_how_far():
    monitor = AuditMonitor(0.02, 0.02, 0.95, 0.01)
    assert monitor.verdict().state is AuditState.OPEN
    monitor.add(label=True, truth=True, probability=0.01, count=600)
    monitor.add(label=False, truth=False, probability=0.01, count=600)
    assert monitor.verdict().state is AuditState.HOLDS
    monitor.add(label=True, truth=False, probability=0.01, count=24)
    assert monitor.verdict().state is AuditState.DANGER
    monitor.add(label=True, truth=False, probability=0.01, count=26)
    found = monitor.verdict()
    assert (found.state, found.broken) == (AuditState.BROKEN, ("fp",))
    assert found.words.startswith("fn: 0.00% (0.00% to ")
    assert "50 wrong of 650 checked), budget 2.00%: broken" in found.words
    assert found.fp.low > 0.02


@pytest.mark.parametrize("probability", [0.0, -0.1, 1.5])
def test_a_probability_out_of_range_is_refused(probability):
    with pytest.raises(UsageError, match="probability"):
        AuditMonitor(0.02, 0.02, 0.95, probability)


def test_a_label_that_was_likelier_left_out_than_said_is_refused():
    monitor = AuditMonitor(0.02, 0.02, 0.95, 0.01)
    with pytest.raises(UsageError, match=r"probability 0\.005, and the bound expects 0\.01 to 1"):
        monitor.add(label=True, truth=True, probability=0.005)


@pytest.mark.parametrize("given", [{"fn": 0}, {"fp": 1}, {"confidence": 95}])
def test_budgets_out_of_range_are_refused(given):
    with pytest.raises(UsageError, match=f"{next(iter(given))} is between 0 and 1"):
        AuditMonitor(**{"fn": 0.02, "fp": 0.02, "confidence": 0.95, **given}, least_probability=0.01)


def test_labels_of_the_reference_and_wrong_ones_of_a_sample_are_bounded_together():
    """At a share of almost 1, one factor is out of all bounds and the other is 0."""
    bound = AuditBound(0.0125, 0.1)
    bound.add(wrong=False, probability=1.0, count=90)
    bound.add(wrong=True, probability=0.1)
    assert bound.rate.value == pytest.approx(0.1)
    assert 0 <= bound.rate.low < 0.1 < bound.rate.high < 1


def test_the_quick_alarm_says_what_the_verdict_says():
    monitor = AuditMonitor(0.02, 0.02, 0.95, 0.1)
    monitor.add(label=True, truth=True, probability=0.1, count=60)
    seen = []
    for _ in range(12):
        monitor.add(label=False, truth=True, probability=0.1)
        state = monitor.verdict().state
        assert monitor.alarm == (state if state in (AuditState.DANGER, AuditState.BROKEN) else None)
        seen.append(monitor.alarm)
    assert list(dict.fromkeys(seen)) == [None, AuditState.DANGER, AuditState.BROKEN]
