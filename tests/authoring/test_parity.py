"""Agreement is one where nothing differs and says how much where something does."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cpuserve.authoring.parity import Parity, class_map, compare
from cpuserve.errors import UsageError


def test_equal_scores_agree_wholly():
    scores = [np.array([[0.1, 0.9]], np.float32), np.array([[0.7, 0.3]], np.float32)]
    assert compare(scores, [row[0] for row in scores]) == Parity(2, 0.0, 0.0, 1.0)


def test_top1_counts_pictures_and_differences_count_numbers():
    before = [np.array([0.1, 0.9]), np.array([0.6, 0.4])]
    after = [np.array([0.1, 0.9]), np.array([0.4, 0.6])]
    found = compare(before, after, "Classification")
    assert found.top1_agreement == 0.5
    assert found.max_abs_diff == pytest.approx(0.2)
    assert found.mean_abs_diff == pytest.approx(0.1)
    assert found.pixel_agreement is None


def test_unsigned_numbers_do_not_wrap():
    assert compare([np.array([3, 250], np.uint8)], [np.array([5, 1], np.uint8)]).max_abs_diff == 249


def test_class_maps_agree_by_pixel_and_by_class():
    before = np.zeros((1, 4, 4), np.int64)
    after = before[0].copy()
    after[0, :2] = 3
    found = compare([before], [after])
    assert (found.max_abs_diff, found.top1_agreement) == (None, None)
    assert found.pixel_agreement == 14 / 16
    assert found.mean_iou == pytest.approx((14 / 16 + 0) / 2)


def test_the_classes_of_scores_are_on_the_smaller_outer_side():
    scores = np.random.default_rng(1).random((5, 6, 3))
    expected = scores.argmax(axis=2)
    assert (class_map(scores[None]) == expected).all()
    assert (class_map(scores.transpose(2, 0, 1)) == expected).all()
    found = compare([scores], [scores + 0.5], "segmentation")
    assert (found.pixel_agreement, found.mean_iou) == (1.0, 1.0)
    assert found.max_abs_diff == pytest.approx(0.5)


def test_what_neither_classifies_nor_segments_is_compared_as_numbers():
    boxes = [np.ones((1, 85, 22, 22), np.float32)]
    assert compare(boxes, boxes) == Parity(1, 0.0, 0.0)
    assert compare([np.ones(4)], [np.ones(4)], "YOLOX") == Parity(1, 0.0, 0.0)


def test_a_nan_is_no_agreement():
    found = compare([np.array([0.0, 1.0])], [np.array([0.0, np.nan])])
    assert math.isnan(found.max_abs_diff or 0)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ([], [], "0 and to 0 pictures"),
        ([np.ones(2)], [np.ones(2)] * 2, "1 and to 2 pictures"),
        ([np.ones((1, 3))], [np.ones((1, 2))], r"shapes \[3\] and \[2\]"),
    ],
)
def test_what_cannot_be_compared_is_refused(before, after, words):
    with pytest.raises(UsageError, match=words):
        compare(before, after)


def test_a_map_has_two_sides():
    with pytest.raises(UsageError, match=r"shape \[4\]"):
        class_map(np.ones(4))
