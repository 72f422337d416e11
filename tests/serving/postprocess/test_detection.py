"""Boxes brought back to the picture, ranked and thinned out."""

from __future__ import annotations

import numpy as np
import pytest

from cpuserve.errors import RequestError
from cpuserve.serving.picture_input import PictureSize
from cpuserve.serving.postprocess.detection import Boxes, Detector, best_of_each
from cpuserve.serving.preprocess import Resizer


def detector(*boxes, resize_type="standard"):
    corners, scores, classes = zip(*boxes, strict=True)
    found = Boxes(np.array(corners, np.float32), np.array(scores, np.float32), np.array(classes, np.int64))
    return Detector(lambda _: found, ("cat", "dog"), Resizer(100, 100, resize_type))


def test_boxes_are_in_pixels_of_the_picture_best_first():
    made = detector(([10, 20, 30, 40], 0.5, 0), ([50, 50, 100, 100], 0.75, 1), ([0, 0, 10, 10], 0.625, 7))
    assert made.answer([], None, PictureSize(400, 50)) == {
        "detections": [
            {"class_id": 1, "label": "dog", "probability": 0.75, "box": [200, 25, 400, 50]},
            {"class_id": 7, "label": "7", "probability": 0.625, "box": [0, 0, 40, 5]},
            {"class_id": 0, "label": "cat", "probability": 0.5, "box": [40, 10, 120, 20]},
        ]
    }
    assert [entry["label"] for entry in made.answer([], 2, PictureSize(400, 50))["detections"]] == [
        "dog",
        "7",
    ]


def test_boxes_end_at_the_picture_and_those_beside_it_are_left_out():
    """A letterbox of a picture 200 x 100: 25 rows of padding above and below."""
    made = detector(
        ([-5, 20, 50, 60], 0.9, 0), ([10, 2, 90, 24], 0.8, 0), resize_type="fit_to_window_letterbox"
    )
    (only,) = made.answer([], None, PictureSize(200, 100))["detections"]
    assert only["box"] == [0, 0, 100, 70]


def test_topk_is_at_least_one():
    with pytest.raises(RequestError, match="topk is 0"):
        detector(([0, 0, 1, 1], 0.5, 0)).answer([], 0, PictureSize(10, 10))


def test_nothing_above_1_is_called_a_probability():
    """Such scores come from pixels 0 to 255 in a model that was trained on 0 to 1."""
    with pytest.raises(RequestError, match=r"a score of this model is 153\.344 .*--scale_values 255"):
        detector(([0, 0, 9, 9], 153.34375, 0), ([0, 0, 9, 9], 0.5, 0)).answer([], None, PictureSize(10, 10))
    (step,) = detector(([0, 0, 9, 9], 1.004, 0)).answer([], None, PictureSize(10, 10))["detections"]
    assert step["probability"] == 1


def test_of_boxes_of_a_class_that_overlap_the_best_stays():
    boxes = Boxes(
        np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 4], [0, 0, 10, 10]], np.float32),
        np.array([0.625, 0.875, 0.75, 0.5], np.float32),
        np.array([0, 0, 0, 1]),
    )
    kept = best_of_each(boxes, 0.5)
    assert sorted(zip(kept.scores.tolist(), kept.classes.tolist(), strict=True)) == [
        (0.5, 1),
        (0.75, 0),
        (0.875, 0),
    ]
    assert len(best_of_each(boxes, 0.3).scores) == 2
    nothing = Boxes(np.empty((0, 4)), np.empty(0), np.empty(0))
    assert len(best_of_each(nothing, 0.5).scores) == 0
