"""Windows of 30 frames, their rates, and exact intervals."""

import math

import numpy as np
import pytest

from cpuserve.video.windows import accuracy, clopper_pearson, window_labels


def frames(*runs):
    return np.concatenate([np.full(length, value) for value, length in runs]).astype(bool)


def test_a_window_is_positive_from_28_frames_on():
    assert window_labels(frames((1, 28), (0, 2), (1, 27), (0, 3))).tolist() == [True, False]


def test_frames_that_fill_no_window_are_left_out():
    assert window_labels(frames((1, 29))).tolist() == []
    found = accuracy(frames((1, 59)), frames((1, 40), (0, 19)))
    assert (found.windows, found.left_out) == (1, 29)
    assert (found.fp.wrong, found.fp.of) == (0, 0)
    assert found.fp.value is None
    assert (found.frames_fp.wrong, found.frames_fp.of) == (19, 19)


def test_errors_are_counted_in_windows_frames_and_events():
    truth = frames((1, 90), (0, 90), (1, 60))
    labels = frames((0, 60), (1, 30), (0, 90), (1, 30), (0, 30))
    found = accuracy(labels, truth)
    assert (found.fn.wrong, found.fn.of, found.fp.wrong, found.fp.of) == (3, 5, 0, 3)
    assert (found.events_fn, found.events_fp, found.changes) == (2, 0, 2)
    assert (found.frames_fn.wrong, found.frames_fn.of) == (90, 150)
    assert found.agreement == pytest.approx(5 / 8)


def test_a_window_with_a_frame_missing_is_no_window():
    number = np.delete(np.arange(90), 45)
    truth = np.ones(89, bool)
    found = accuracy(truth, truth, windows=number // 30)
    assert (found.windows, found.left_out) == (2, 29)


@pytest.mark.parametrize(
    ("wrong", "of", "low", "high"),
    [
        # the exact intervals at 95 % of the tables of binomial shares
        (0, 10, 0.0, 0.30850),
        (1, 10, 0.00253, 0.44502),
        (5, 10, 0.18709, 0.81291),
        (10, 10, 0.69150, 1.0),
        (2, 1000, 0.000242, 0.007206),
    ],
)
def test_intervals_are_those_of_the_tables(wrong, of, low, high):
    assert clopper_pearson(wrong, of, 0.95) == pytest.approx((low, high), abs=2e-5)


def test_the_tails_of_an_interval_have_their_probability():
    wrong, of = 7, 400
    low, high = clopper_pearson(wrong, of, 0.9)
    below = sum(math.comb(of, k) * high**k * (1 - high) ** (of - k) for k in range(wrong + 1))
    above = 1 - sum(math.comb(of, k) * low**k * (1 - low) ** (of - k) for k in range(wrong))
    assert (below, above) == pytest.approx((0.05, 0.05))


def test_of_nothing_everything_is_possible():
    assert clopper_pearson(0, 0, 0.95) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("wrong", "of", "confidence"), [(2, 1, 0.95), (-1, 4, 0.95), (1, 4, 1.0), (1, 4, 95)]
)
def test_no_share_and_no_confidence_are_refused(wrong, of, confidence):
    with pytest.raises(ValueError, match=r"no share|confidence"):
        clopper_pearson(wrong, of, confidence)


def test_labels_of_another_length_are_refused():
    with pytest.raises(ValueError, match="3 labels"):
        accuracy(np.ones(3, bool), np.ones(4, bool))
    with pytest.raises(ValueError, match="0 labels"):
        accuracy(np.ones(0, bool), np.ones(0, bool))
