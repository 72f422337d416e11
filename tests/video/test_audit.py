"""The audit finds a broken budget, also late in a run, and seldom cries wolf."""

import numpy as np
import pytest

from cpuserve.video.audit import Audit, DriftTest, ErrorRate, is_audited, probability_of_audit


def test_the_sample_depends_on_seed_and_number_alone_and_has_its_rate():
    chosen = [number for number in range(50_000) if is_audited(7, number, 0.02)]
    assert chosen == [number for number in reversed(range(50_000)) if is_audited(7, number, 0.02)][::-1]
    assert 800 < len(chosen) < 1200
    assert set(chosen) != {number for number in range(50_000) if is_audited(8, number, 0.02)}
    assert set(chosen) < {number for number in range(50_000) if is_audited(7, number, 0.08)}
    assert is_audited(7, 3, 1.0)
    assert not is_audited(7, 3, 0.0)


def test_decisions_near_a_threshold_are_audited_more_often():
    assert probability_of_audit(0.01, near=True) > probability_of_audit(0.01, near=False) == 0.01
    assert probability_of_audit(0.9, near=True) == 1.0


def alarm_at(errors, budget, limit=40):
    test = DriftTest(budget)
    for place, error in enumerate(errors):
        test.update(1.0, error=bool(error))
        if test.evidence >= limit:
            return place
    return None


def test_a_kept_budget_raises_no_alarm():
    """At most 1 in 40 runs may; the runs are long and looked at after every frame."""
    draws = np.random.default_rng(1).random((100, 1000)) < 0.02
    assert sum(alarm_at(run, 0.02) is not None for run in draws) <= 3


@pytest.mark.parametrize("before", [0, 300, 3000])
def test_a_budget_that_breaks_late_is_found_as_soon_as_one_that_breaks_early(before):
    generator = np.random.default_rng(2)
    quiet = generator.random(before) < 0.001
    found = [alarm_at([*quiet, *(generator.random(200) < 0.4)], 0.02) for _ in range(20)]
    assert max(found) < before + 60


def test_a_rate_a_little_above_the_budget_is_found_in_the_end():
    assert alarm_at(np.random.default_rng(3).random(4000) < 0.06, 0.02) is not None


def test_no_error_at_all_is_allowed_by_a_budget_of_none():
    assert alarm_at([0] * 500, 0.0) is None
    assert alarm_at([0] * 500 + [1, 1], 0.0) is not None


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.2, 1.0])
def test_the_bounds_hold_and_close_in(rate):
    draws = np.random.default_rng(4).random((40, 400)) < rate
    outside = 0
    for run in draws:
        seen = ErrorRate()
        assert seen.estimate is None
        assert seen.bounds(0.95) == (0.0, 1.0)
        always = True
        for error in run:
            seen.update(1.0, error=bool(error))
            if seen.audited % 40 == 0:
                low, high = seen.bounds(0.95)
                always &= low <= rate <= high
        outside += not always
        assert high - low < 0.2
        assert low <= seen.estimate <= high
    assert outside <= 4


def test_weights_undo_that_some_frames_are_audited_more_often():
    """Errors are only near the threshold, where a third of the frames are audited, and not a tenth."""
    generator = np.random.default_rng(5)
    audit = Audit(0.5, 0.5, 0.95, rate=0.1)
    near = generator.random(60_000) < 0.2
    wrong = near & (generator.random(60_000) < 0.25)
    for is_near, is_wrong in zip(near, wrong, strict=True):
        probability = probability_of_audit(0.1, near=bool(is_near))
        if generator.random() < probability:
            audit.add("specialised", probability, label=not is_wrong, truth=True)
    assert audit.missed.estimate == pytest.approx(wrong.mean(), abs=0.01)
    assert audit.missed.errors / audit.missed.audited > 0.1  # unweighed
    assert audit.by_stage == {"specialised": [audit.missed.audited, audit.missed.errors]}


def test_the_broken_budget_is_named():
    audit = Audit(0.01, 0.01, 0.95, rate=0.1)
    for _ in range(50):
        audit.add("specialised", 0.1, label=True, truth=True)
        audit.add("difference", 0.1, label=False, truth=False)
    assert audit.broken() == []
    for _ in range(5):
        audit.add("difference", 0.1, label=False, truth=True)
    assert audit.broken() == ["fn"]
    audit.restart()
    assert audit.broken() == []
    for _ in range(5):
        audit.add("difference", 0.1, label=True, truth=False)
    assert audit.broken() == ["fp"]
    assert audit.by_stage["difference"] == [60, 10]
