"""The audit's sample is fixed by seed, video and number, and its counts are right by stage."""

import numpy as np
import pytest

from cpuserve.video.audit import Audit, StageAudit, is_audited, probability_of_audit
from cpuserve.video.audit_bound import AuditState
from cpuserve.video.cascade_choice import DecidedBy
from cpuserve.video.frame_labels import LabelledFrame


def test_the_sample_depends_on_seed_video_and_number_alone_and_has_its_rate():
    chosen = [number for number in range(50_000) if is_audited(7, "a", number, 0.02)]
    assert chosen == [number for number in reversed(range(50_000)) if is_audited(7, "a", number, 0.02)][::-1]
    assert 800 < len(chosen) < 1200
    assert set(chosen) != {number for number in range(50_000) if is_audited(8, "a", number, 0.02)}
    assert set(chosen) < {number for number in range(50_000) if is_audited(7, "a", number, 0.08)}
    assert is_audited(7, "a", 3, 1.0)
    assert not is_audited(7, "a", 3, 0.0)


def test_errors_at_the_same_place_of_every_video_are_found_and_counted():
    """Sixty clips of which the first frames are wrong, which a sample of the same numbers would all miss."""
    rates = []
    for seed in range(20):
        audit = Audit(0.2, 0.2, 0.95, rate=0.1)
        for video in range(60):
            for number in range(30):
                if is_audited(seed, f"{video}.mp4", number, 0.1):
                    audit.add(seen(number < 3, False, audit=0.1, number=number))
            audit.finish()
        rates.append(audit.verdict().fp)
    assert sum(not rate.low <= 0.1 <= rate.high for rate in rates) <= 2
    assert np.std([rate.value for rate in rates]) < 0.04


def test_decisions_near_a_threshold_are_audited_more_often():
    assert probability_of_audit(0.01, near=True) > probability_of_audit(0.01, near=False) == 0.01
    assert probability_of_audit(0.9, near=True) == 1.0


def seen(label, truth, stage=DecidedBy.SPECIALISED, audit=0.1, number=0):
    return LabelledFrame(number, stage, label, truth=truth, audit=audit)


def test_weights_undo_that_some_frames_are_audited_more_often():
    """Errors are only near the threshold, where two fifths of the frames are audited, and not a tenth."""
    generator = np.random.default_rng(5)
    audit = Audit(0.5, 0.5, 0.95, rate=0.1)
    near = generator.random(20_000) < 0.2
    wrong = near & (generator.random(20_000) < 0.25)
    for is_near, is_wrong in zip(near, wrong, strict=True):
        probability = probability_of_audit(0.1, near=bool(is_near))
        if generator.random() < probability:
            audit.add(seen(not is_wrong, True, audit=probability))
    found = audit.verdict().fn
    assert found.value == pytest.approx(wrong.mean(), abs=0.015)
    assert found.wrong / found.checked > 0.1  # unweighed
    assert found.low < wrong.mean() < found.high


def test_frames_of_the_reference_count_for_the_rate_and_not_as_audited():
    audit = Audit(0.2, 0.2, 0.95, rate=0.1)
    for _ in range(90):
        audit.add(seen(True, True, DecidedBy.REFERENCE, audit=0.0))
    audit.add(seen(False, True, DecidedBy.DIFFERENCE))
    assert audit.add(seen(False, None, DecidedBy.SKIPPED, audit=0.0)) is None
    assert audit.by_stage == {DecidedBy.DIFFERENCE: StageAudit(1, 1)}
    assert audit.verdict().fn.value == pytest.approx(10 / 100)


def test_the_budget_in_danger_is_named_and_begins_anew():
    audit = Audit(0.01, 0.01, 0.95, rate=0.1)
    for _ in range(50):
        assert audit.add(seen(True, True)) is None
        assert audit.add(seen(False, False)) is None
    states = [audit.add(seen(False, True)) for _ in range(12)]
    assert AuditState.DANGER in states
    assert states[-1] is AuditState.BROKEN
    assert audit.verdict().broken == ("fn",)
    audit.restart()
    assert audit.add(seen(False, True)) is not AuditState.BROKEN
    assert audit.verdict().fn.wrong == 13  # the estimate goes on


def test_labels_of_windows_may_be_late_by_less_than_a_window():
    """The object comes at frame 100 and 400; the label follows 20 frames later, and never."""
    audit, states = Audit(0.01, 0.01, 0.95, rate=0.1, slack=29), []
    for number in range(600):
        truth = 100 <= number < 200 or number >= 400
        audited = number % 5 == 0
        frame = seen(120 <= number < 220, truth if audited else None, audit=0.1 * audited, number=number)
        states.append(audit.add(frame))
    assert set(states[:430]) == {None}
    assert AuditState.BROKEN in states
    assert [frame.number for frame in audit.errors] == list(range(400, 571, 5))
    audit.finish()
    assert [frame.number for frame in audit.errors] == list(range(400, 600, 5))
    assert audit.by_stage[DecidedBy.SPECIALISED] == StageAudit(120, 40)
    again = seen(True, True, number=3)
    assert audit.add(again) is None  # of the next video
    audit.restart()
    assert not audit.errors
