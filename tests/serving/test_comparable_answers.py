"""Answers of each kind against numbers worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cpuserve.serving.answer_tally import Tally
from cpuserve.serving.comparable_answers import (
    BoxAnswer,
    LabelAnswer,
    MaskAnswer,
    PointAnswer,
    RankedAnswer,
    TextAnswer,
    VectorAnswer,
)


def boxes(*found: tuple[float, int, float], width: float = 100) -> BoxAnswer:
    """Boxes of 100 pixels from x on: x, class, score."""
    corners = np.array([(x, 0, x + width, 100) for x, _, _ in found], np.float64).reshape(-1, 4)
    return BoxAnswer(
        corners, np.array([kind for _, kind, _ in found], int), np.array([s for *_, s in found], float)
    )


def agreed(before: Any, after: Any) -> float:
    share: float = before.against(after).pooled
    return share


def test_the_order_of_classes_counts_by_how_far_their_scores_are_apart():
    before = RankedAnswer({3: 0.7, 1: 0.2, 2: 0.1})
    assert agreed(before, before) == 1
    # pairs: 3-1 by 0.5, 3-2 by 0.6, 1-2 by 0.1
    assert agreed(before, RankedAnswer({3: 0.7, 2: 0.2, 1: 0.1})) == pytest.approx(1.1 / 1.2)
    assert agreed(before, RankedAnswer({1: 0.7, 3: 0.2, 2: 0.1})) < 0.7 / 1.2
    assert agreed(before, RankedAnswer({2: 0.7, 1: 0.2, 3: 0.1})) == 0
    assert agreed(before, RankedAnswer({1: 0.3, 2: 0.3, 3: 0.3})) < 0.5
    assert agreed(before, RankedAnswer({7: 0.9, 8: 0.1})) == 0.5  # what it does not name is a tie
    assert agreed(before, None) == 0


def test_a_probability_that_moves_far_is_no_agreement_even_in_the_same_order():
    before = RankedAnswer({0: 0.9, 1: 0.1})
    assert agreed(before, RankedAnswer({0: 0.75, 1: 0.25})) == 1
    assert agreed(before, RankedAnswer({0: 0.51, 1: 0.49})) == pytest.approx(1 - 0.19 / 0.5)


def test_raw_scores_are_compared_by_their_order():
    before = RankedAnswer({0: 11.0, 1: 3.0, 2: -2.0})
    assert agreed(before, RankedAnswer({0: 40.0, 1: 3.0, 2: -9.0})) == 1
    assert agreed(before, RankedAnswer({0: -40.0, 1: 3.0, 2: 9.0})) == 0


def test_a_single_probability_stands_beside_its_opposite():
    assert agreed(RankedAnswer({0: 0.9}), RankedAnswer({0: 0.8})) == 1
    assert agreed(RankedAnswer({0: 0.9}), RankedAnswer({0: 0.2})) == 0
    assert (RankedAnswer({0: 0.9}).said, RankedAnswer({0: 0.1}).said) == (True, False)


def test_sets_of_labels_are_compared_in_both_directions():
    before = LabelAnswer({1: 0.8, 2: 0.6})
    tally = before.against(LabelAnswer({1: 0.8, 4: 0.6}))
    assert (tally.answers, tally.missed, tally.invented) == (2, 1, 1)
    assert tally.pooled == pytest.approx(1.6 / 2.8)
    assert agreed(before, LabelAnswer(dict.fromkeys(range(9), 1.0))) < 0.35


@pytest.mark.parametrize(
    ("after", "expected", "missed", "invented"),
    [
        (boxes((0, 1, 0.8), (200, 2, 0.6)), 1.0, 0, 0),
        (boxes((0, 1, 0.8)), 1.6 / 2.2, 1, 0),
        (boxes((0, 1, 0.8), (200, 2, 0.6), (400, 1, 0.8)), 2.8 / 3.6, 0, 1),
        (boxes((0, 2, 0.8), (200, 1, 0.6)), 0.0, 2, 2),
        (boxes((60, 1, 0.8), (260, 2, 0.6)), 0.0, 2, 2),  # IoU 0.25
        (boxes((0, 1, 0.3), (200, 2, 0.1)), 0.0, 0, 0),  # scores half as good
        (boxes(), 0.0, 2, 0),
        (None, 0.0, 2, 0),
    ],
)
def test_boxes_match_by_overlap_class_and_score_in_both_directions(after, expected, missed, invented):
    tally = boxes((0, 1, 0.8), (200, 2, 0.6)).against(after)
    assert tally.pooled == pytest.approx(expected)
    assert (tally.answers, tally.missed, tally.invented) == (2, missed, invented)


def test_an_overlap_between_a_half_and_nine_tenths_counts_in_part():
    # 100 x 100 against 70 x 100 inside it: IoU 0.7
    assert agreed(boxes((0, 1, 0.5)), boxes((0, 1, 0.5), width=70)) == pytest.approx(0.5)
    assert agreed(boxes((0, 1, 0.5)), boxes((0, 1, 0.5), width=92)) == 1


def test_a_box_is_matched_once():
    tally = boxes((0, 1, 0.8)).against(boxes((0, 1, 0.8), (2, 1, 0.8)))
    assert (tally.missed, tally.invented) == (0, 1)
    assert tally.pooled == pytest.approx(1.6 / 2.4)


def points(**places: tuple[float, float]) -> PointAnswer:
    found = {int(key[1:]): place for key, place in places.items()}
    return PointAnswer(found, dict.fromkeys(found, 0.9), 10.0)


def test_keypoints_agree_by_their_distance_in_parts_of_the_object():
    before = points(k0=(0, 0), k1=(100, 0), k2=(0, 100))
    assert agreed(before, before) == 1
    near = points(k0=(0, 0), k1=(100, 0), k2=(0, 110))
    # OKS of 10 pixels in an object of 100 x 100 with sigma 0.05: exp(-100 / (2 * 100**2 * 0.1**2))
    assert agreed(before, near) == pytest.approx((2 + math.exp(-0.5)) / 3)
    swapped = points(k0=(0, 0), k1=(0, 100), k2=(100, 0))
    assert agreed(before, swapped) == pytest.approx(1 / 3)
    lost = before.against(points(k0=(0, 0)))
    assert (lost.answers, lost.missed, lost.invented) == (3, 2, 0)


def test_masks_agree_by_class_so_that_the_background_hides_nothing():
    before = np.zeros((100, 100), np.uint8)
    before[:20, :20] = 1
    swamped = MaskAnswer(before).against(MaskAnswer(np.zeros_like(before)))
    assert swamped.pooled == pytest.approx(0.96 / 1.04)
    assert swamped.by_class == pytest.approx(0.96 / 2)
    assert [key for key, _ in Tally.total([swamped, swamped]).lost_classes()] == [1]
    inverted = MaskAnswer(before).against(MaskAnswer(1 - before))
    assert inverted.by_class == 0
    assert MaskAnswer(before).against(None).by_class == 0


def test_stray_pixels_are_no_class_that_was_lost():
    before = np.zeros((100, 100), np.uint8)
    before[0, 0] = 7
    tally = MaskAnswer(before).against(MaskAnswer(np.zeros_like(before)))
    assert tally.by_class == pytest.approx(1 / 1.01, abs=1e-3)
    assert list(tally.lost_classes()) == []


def test_pixels_that_the_model_did_not_see_do_not_count():
    before = np.full((10, 10), 255, np.uint8)
    before[0] = 3
    tally = MaskAnswer(before).against(MaskAnswer(before))
    assert (list(tally.whole), tally.by_class) == ([3], 1.0)


def test_embeddings_agree_around_what_all_of_them_share():
    shared = np.array([0.9, 0.0, 0.0])
    one, other = (VectorAnswer(shared + np.array(move), shared) for move in ((0, 0.1, 0), (0, -0.1, 0)))
    assert agreed(one, one) == pytest.approx(1)
    assert agreed(one, other) == 0
    assert agreed(one, replace(one, values=shared)) == 0  # collapsed to the mean


def test_texts_agree_by_their_characters():
    assert agreed(TextAnswer("kitten"), TextAnswer("sitting")) == pytest.approx(4 / 7)
    assert agreed(TextAnswer("ab"), TextAnswer("")) == 0
    assert agreed(TextAnswer(""), TextAnswer("")) == 1


def test_a_class_that_is_mostly_lost_is_named_only_where_it_was_answered_often():
    def lost(times: int) -> list[int]:
        found = [boxes((0, 1, 0.9)).against(boxes((0, 1, 0.9))) for _ in range(100)]
        found += [boxes((0, 2, 0.9)).against(boxes()) for _ in range(times)]
        return [key for key, _ in Tally.total(found).lost_classes()]

    assert (lost(4), lost(5)) == ([], [2])


def test_keypoints_of_a_box_count_with_it():
    before, after = boxes((0, 1, 0.8)), boxes((0, 1, 0.8))
    found = PointAnswer({0: (10, 10), 1: (60, 10)}, {0: 0.9, 1: 0.9}, 100.0)
    swapped = replace(found, points={0: (60, 10), 1: (10, 10)})
    assert agreed(replace(before, points=(found,)), replace(after, points=(found,))) == 1
    assert agreed(replace(before, points=(found,)), replace(after, points=(swapped,))) < 0.01
    assert agreed(replace(before, points=(found,)), after) == 0
