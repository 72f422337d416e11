"""Difference detectors: exposure is no difference, objects are, and anchors are those of the score table."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cpuserve.errors import UsageError
from cpuserve.video.difference import DifferenceDetector, make_detector
from cpuserve.video.logistic import fit_logistic
from cpuserve.video.picture_difference import block_features, residual, small_picture
from tests.video.test_score_table import made_table

RANDOM = np.random.default_rng(3)
SCENE = RANDOM.uniform(40, 120, (50, 50, 3))


def shot(gain: float = 1.0, *, at: int | None = None, noise: float = 2.0) -> np.ndarray:
    """The scene with the camera's noise, and with a bright object whose left edge is ``at``."""
    picture = SCENE.copy()
    if at is not None:
        picture[20:30, at : at + 10] = 210
    picture = picture * gain + RANDOM.normal(0, noise, SCENE.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def detectors() -> list[DifferenceDetector]:
    features = np.stack(  # of the exposures that occur
        [
            block_features(
                residual(small_picture(shot(RANDOM.uniform(0.7, 1.1), at=at)), small_picture(shot()))
            )
            for at in [None, 15] * 60
        ]
    )
    weights = fit_logistic(features, np.tile([False, True], 60)).state()
    empty = {"empty": shot(noise=0)}
    return [
        make_detector("global:1"),
        make_detector("blocked:1", weights),
        make_detector("global:reference", empty),
        make_detector("blocked:reference", {**empty, **weights}),
        make_detector("average", {"half_life": np.array(100.0)}),
    ]


@pytest.mark.parametrize("place", range(5))
def test_an_object_is_a_difference_and_exposure_is_none(place):
    detector = detectors()[place]
    detector.reset()
    detector.step(0, shot())
    still = [detector.step(number, shot()).value for number in range(1, 20)]
    darker = [detector.step(number, shot(0.75)).value for number in range(20, 30)]
    brighter = [detector.step(number, shot(1.1)).value for number in range(30, 40)]
    detector.step(40, shot())
    found = detector.step(41, shot(0.8, at=15)).value
    assert found > 2 * max(*still, *darker, *brighter), (detector.name, max(darker), max(brighter), found)


def test_the_average_learns_anew_after_a_jump_of_the_light():
    detector = make_detector("average", {"half_life": np.array(250.0)})
    detector.step(0, shot())
    still = max(detector.step(number, shot()).value for number in range(1, 10))
    turned = 255 - SCENE  # no gain makes one of the other

    def lit():
        return np.clip(turned + RANDOM.normal(0, 2, SCENE.shape), 0, 255).astype(np.uint8)

    jump = detector.step(10, lit()).value
    after = [detector.step(number, lit()).value for number in range(11, 20)]
    assert jump > 100 * still
    assert max(after) < 3 * still  # one difference, not a motion for half a minute


def test_what_stays_becomes_part_of_the_average():
    detector = make_detector("average", {"half_life": np.array(20.0)})
    detector.step(0, shot())
    came = detector.step(1, shot(at=15)).value
    later = [detector.step(number, shot(at=15)).value for number in range(2, 200)]
    assert later[-1] < came / 100
    # a detector that looks at every 10th frame only forgets as fast by the clock
    sparse = make_detector("average", {"half_life": np.array(20.0)})
    sparse.step(0, shot())
    values = [sparse.step(number, shot(at=15)).value for number in range(10, 210, 10)]
    assert values[-1] < came / 100


def test_the_first_frame_of_a_segment_is_compared_with_nothing():
    for detector in detectors():
        detector.reset()
        first = detector.step(7, shot())
        detector.step(8, shot())
        detector.reset()
        again = detector.step(50, shot())
        if detector.name.endswith("reference"):
            assert math.isfinite(first.value)
            assert math.isfinite(again.value)
        else:
            assert first == again == (math.inf, None)


@pytest.mark.parametrize("every", [1, 2, 5, 10])
@pytest.mark.parametrize("which", ["all", "nonref", "nonkey"])
@pytest.mark.parametrize("name", ["global:10", "average"])
def test_anchors_are_those_of_the_table(every, which, name):
    table = made_table(90, starts=(0, 23, 61))
    wanted = table.anchors(name, every, which)
    detector = make_detector(name, {"half_life": np.array(10.0)})
    seen = table.looked_at(every, which)
    segment = -1
    for row in np.flatnonzero(seen):
        if (now := int(table.first[: row + 1].sum())) != segment:
            segment = now
            detector.reset()
        found = detector.step(int(row), shot())
        assert found.anchor == (None if wanted[row] < 0 else wanted[row]), row
        assert math.isinf(found.value) == (wanted[row] < 0), row


@pytest.mark.parametrize("place", range(5))
def test_a_detector_is_kept_in_a_file(tmp_path, place):
    detector = detectors()[place]
    path = tmp_path / "detector.npz"
    detector.save(path)
    again = DifferenceDetector.load(path)
    assert again.name == detector.name
    pictures = [shot(), shot(0.9), shot(at=15)]
    for number, picture in enumerate(pictures):
        assert again.step(number, picture) == detector.step(number, picture)


def test_files_that_are_no_detector_are_refused(tmp_path):
    path = tmp_path / "detector.npz"
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        DifferenceDetector.load(path)
    contents = {
        "empty": b"",
        "text": b"delta = 3",
        "half": b"PK\x03\x04" + bytes(50),
    }
    for data in contents.values():
        path.write_bytes(data)
        with pytest.raises(UsageError, match="is no difference detector"):
            DifferenceDetector.load(path)
    np.savez(path, name=np.array("blocked:10"))
    with pytest.raises(UsageError, match="is no difference detector"):
        DifferenceDetector.load(path)
    np.savez(path, name=np.array("optical-flow"))
    with pytest.raises(UsageError, match="there is no difference detector 'optical-flow'"):
        DifferenceDetector.load(path)


def test_dark_pictures_have_no_gain():
    black = np.zeros((50, 50, 3), np.uint8)
    assert residual(small_picture(black), small_picture(black)).max() == 0
    lamp = black.copy()
    lamp[:5, :5] = 255
    assert np.isfinite(residual(small_picture(lamp), small_picture(black))).all()
