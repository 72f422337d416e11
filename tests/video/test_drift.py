"""A run alarms, tightens its thresholds or asks the reference when the audit finds errors."""

import numpy as np
import pytest

from cpuserve.video.audit import Audit
from cpuserve.video.audit_bound import AuditState
from cpuserve.video.cascade_choice import DecidedBy
from cpuserve.video.cascade_stage import ALL_TO_THE_REFERENCE, Thresholds
from cpuserve.video.drift import DriftResponse
from cpuserve.video.frame_labels import LabelledFrame

LIMITS = Thresholds(every=5, packets_low=0.1, packets_high=0.9, delta=8.0, c_low=0.2, c_high=0.8, c_half=0.5)
RIGHT = LabelledFrame(0, DecidedBy.SPECIALISED, True, specialised=0.95, truth=True, audit=0.1)
SKIP = LabelledFrame(0, DecidedBy.SKIPPED, False, truth=True, audit=0.1)


def response(on_drift):
    return DriftResponse(Audit(0.02, 0.02, 0.95, 0.1), LIMITS, on_drift)


def see(drift, frame, times):
    """Show a frame until thresholds change; how often it was shown."""
    for place in range(times):
        if drift.see(frame):
            return place + 1
    return None


def test_what_is_right_changes_nothing():
    drift = response("tighten")
    assert see(drift, RIGHT, 500) is None
    assert (drift.alarms, drift.thresholds) == ([], LIMITS)


def test_an_alarm_is_raised_once_for_danger_and_once_for_a_broken_budget(caplog):
    drift = response("alarm")
    see(drift, RIGHT, 50)
    assert see(drift, SKIP, 40) is None
    assert [alarm.state for alarm in drift.alarms] == [AuditState.DANGER, AuditState.BROKEN]
    assert drift.thresholds == LIMITS
    assert len(caplog.messages) == 2
    assert "fn: " in caplog.messages[1]
    assert "broken" in caplog.messages[1]
    assert "nothing was changed" in caplog.messages[1]


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (SKIP, {"every": 1}),
        (
            LabelledFrame(0, DecidedBy.DIFFERENCE, False, difference=3.0, truth=True, audit=0.1),
            {"delta": 1.5},
        ),
        (
            LabelledFrame(0, DecidedBy.SPECIALISED, False, specialised=0.1, truth=True, audit=0.1),
            {"c_low": 0.05, "c_half": 0.05},
        ),
        (
            LabelledFrame(0, DecidedBy.SPECIALISED, False, specialised=0.4, truth=True, audit=0.1),
            {"c_half": 0.2},
        ),
        (
            LabelledFrame(0, DecidedBy.SPECIALISED, True, specialised=0.9, truth=False, audit=0.1),
            {"c_high": 0.95},
        ),
        (
            LabelledFrame(0, DecidedBy.PACKETS, False, packets=0.08, truth=True, audit=0.1),
            {"packets_low": 0.04},
        ),
        (
            LabelledFrame(0, DecidedBy.PACKETS, True, packets=0.96, truth=False, audit=0.1),
            {"packets_high": 0.98},
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else value.stage.name,
)
def test_tightening_moves_the_threshold_past_the_errors(error, wanted):
    drift = response("tighten")
    assert see(drift, error, 40)
    moved = {name: value for name, value in vars(drift.thresholds).items() if value != getattr(LIMITS, name)}
    assert moved.keys() == wanted.keys()
    for name, value in wanted.items():
        assert (
            abs(moved[name] - {"c_high": 1, "packets_high": 1}.get(name, 0))
            <= abs(value - {"c_high": 1, "packets_high": 1}.get(name, 0)) + 1e-9
        )
    assert drift.alarms[0].state is AuditState.DANGER


def test_tightening_in_vain_ends_with_the_reference():
    drift = response("tighten")
    assert see(drift, SKIP, 40)
    assert drift.thresholds.every == 1
    assert see(drift, SKIP, 40)
    assert drift.thresholds == ALL_TO_THE_REFERENCE
    assert "all frames go to the reference from here on" in drift.alarms[-1].done


def test_the_reference_takes_over_only_when_a_budget_is_broken():
    drift = response("reference")
    assert see(drift, SKIP, 40)
    assert [alarm.state for alarm in drift.alarms] == [AuditState.DANGER, AuditState.BROKEN]
    assert drift.thresholds == ALL_TO_THE_REFERENCE


def test_a_run_without_audit_is_left_alone():
    drift = DriftResponse(None, LIMITS, "reference")
    assert see(drift, SKIP, 100) is None


def test_a_kept_budget_seldom_alarms():
    """Errors within the budget break it in at most 1 of 20 runs."""
    generator = np.random.default_rng(1)
    broken = 0
    for _ in range(40):
        drift = response("alarm")
        for wrong in generator.random(600) < 0.02:
            drift.see(SKIP if wrong else RIGHT)
        broken += any(alarm.state is AuditState.BROKEN for alarm in drift.alarms)
    assert broken <= 2
