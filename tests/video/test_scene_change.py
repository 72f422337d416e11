"""A scene that changes while a cascade runs is found by the audit, and answered as the user asked."""

import json

import numpy as np
import pytest

from benchmarks.fixtures.long_clip import ClipRecipe, make_clip
from cpuserve.video.audit_bound import AuditState
from cpuserve.video.cascade_choice import Choice, DecidedBy
from cpuserve.video.cascade_run import CascadeRun
from cpuserve.video.video_file import probe
from tests.video.small_cascade import BrightReference, write_small_cascade

BORDER = 250
NETWORK_LIMIT = 112.0


@pytest.fixture(scope="module")
def spliced(data_dir, tmp_path_factory):
    """A dark room, and from frame 250 on a bright street."""
    path = tmp_path_factory.mktemp("spliced") / "spliced.mp4"
    clips = [data_dir / "video" / name for name in ("one-by-one-person-detection.mp4", "street_cars.mp4")]
    make_clip(
        path, clips, ClipRecipe(frames=2 * BORDER, width=160, height=96, rate=10, bit_rate=400_000, gop=20)
    )
    return probe(path)


class Dark(BrightReference):
    """Sees the object nowhere, so that bright frames are falsely reported by the network."""

    def submit(self, pixels, width, height):
        return super().submit(np.zeros_like(pixels), width, height)


def run(directory, video, on_drift, reference=None, processes=2):
    cascade = write_small_cascade(directory, Choice(cnn="one", c_low=0.5, c_high=0.5), NETWORK_LIMIT)
    made = CascadeRun(
        *(directory, cascade, reference or Dark()),
        audit_rate=0.1,
        seed=3,
        on_drift=on_drift,
        processes=processes,
    )
    return made, list(made.label(video))


def test_no_alarm_before_the_scene_changes_and_one_soon_after(spliced, tmp_path):
    made, frames = run(tmp_path, spliced, "alarm")
    states = {alarm.state: alarm.number for alarm in made.drift.alarms}
    assert min(states.values()) >= BORDER
    assert BORDER <= states[AuditState.BROKEN] < 2 * BORDER
    assert len(frames) == 2 * BORDER
    assert not made.drift.thresholds.reference_only
    verdict = made.audit.verdict()
    assert verdict.broken == ("fp",)
    assert verdict.fp.low < sum(frame.label for frame in frames) / len(frames) < verdict.fp.high


def test_the_reference_takes_over_at_the_frame_of_the_alarm(spliced, tmp_path):
    made, frames = run(tmp_path, spliced, "reference")
    broken = next(alarm.number for alarm in made.drift.alarms if alarm.state is AuditState.BROKEN)
    assert all(frame.stage == DecidedBy.SPECIALISED for frame in frames[: broken + 1])
    assert all(frame.stage == DecidedBy.REFERENCE for frame in frames[broken + 1 :])
    assert [frame.number for frame in frames] == list(range(2 * BORDER))
    assert not any(frame.label for frame in frames[broken + 1 :])


def test_tightened_thresholds_hold_from_the_next_frame_on_whoever_decodes(spliced, tmp_path):
    made, frames = run(tmp_path, spliced, "tighten")
    first = made.drift.alarms[0]
    assert "c_high 0.5 -> " in first.done
    assert BORDER <= max(frame.number for frame in frames if frame.label) <= made.drift.alarms[-1].number
    again, others = run(tmp_path, spliced, "tighten", processes=1)
    assert [(one.label, one.stage) for one in others] == [(one.label, one.stage) for one in frames]
    assert [alarm.number for alarm in again.drift.alarms] == [alarm.number for alarm in made.drift.alarms]


def test_a_scene_that_the_cascade_knows_raises_no_alarm(spliced, tmp_path):
    """The network says what the reference says in both scenes."""

    class Agreeing(BrightReference):
        def submit(self, pixels, width, height):
            bright = float(pixels[12:].mean()) > NETWORK_LIMIT
            return BrightReference(-1.0 if bright else 1000.0).submit(pixels, width, height)

    made, _ = run(tmp_path, spliced, "alarm", Agreeing())
    assert made.audit.verdict().state is not AuditState.BROKEN


def test_auto_exposure_does_not_blind_the_detector(data_dir, expected, tmp_path):
    """Cars drive through a picture whose exposure changes: no car is missed by frames that copy a label.

    No detector of COCO sees these cars from above, so that the reference is what people saw.
    """
    path = data_dir / "video" / "car-detection.mp4"
    spans = _spans(expected)

    class People(BrightReference):
        """Its frames come in order, as there is one process and no audit."""

        def __init__(self, numbers):
            super().__init__()
            self.numbers = iter(numbers)

        def submit(self, pixels, width, height):
            number = next(self.numbers)
            bright = any(first <= number <= last for first, last in spans)
            return BrightReference(-1.0 if bright else 1000.0).submit(pixels, width, height)

    choice = Choice(detector="average", delta=150.0)
    cascade = write_small_cascade(tmp_path, choice)
    video = probe(path)
    asked = [
        frame.number
        for frame in CascadeRun(tmp_path, cascade, BrightReference(), audit_rate=0).label(video)
        if frame.stage == DecidedBy.REFERENCE
    ]
    made = CascadeRun(tmp_path, cascade, People(asked), audit_rate=0, processes=1)
    labels = np.array([frame.label for frame in made.label(video)])
    truth = np.zeros(len(labels), bool)
    for first, last in spans:
        truth[first : last + 1] = True
    assert 0 < len(asked) < video.frames
    assert (labels & truth).sum() / truth.sum() > 0.9, json.dumps(asked)


def _spans(expected):
    found = expected["video"]["car-detection.mp4"]
    return [(int(first), int(last)) for first, last in found["positive_runs"]]
