"""Keypoints brought back to the picture."""

from __future__ import annotations

import numpy as np

from cpuserve.serving.picture_input import PictureSize
from cpuserve.serving.postprocess.keypoints import Keypoints, Points
from cpuserve.serving.preprocess import Resizer


def test_points_are_in_pixels_of_the_picture_best_first():
    """Left out: what is nowhere, what is weak, what lies in the padding of the letterbox."""
    places = np.array([[50, 50], [10, 30], [-0.5, -0.5], [20, 40], [50, 10]], np.float32)
    scores = np.array([0.5, 0.75, 0.9, 0.25, 0.8], np.float32)
    made = Keypoints(
        lambda _: Points(places, scores),
        ("nose", "eye"),
        Resizer(100, 100, "fit_to_window_letterbox"),
        confidence=0.3,
    )
    found = made.answer([], None, PictureSize(200, 100))
    assert found == {
        "keypoints": [
            {"class_id": 1, "label": "eye", "probability": 0.75, "point": [20, 10]},
            {"class_id": 0, "label": "nose", "probability": 0.5, "point": [100, 50]},
        ]
    }
    assert made.answer([], 1, PictureSize(200, 100))["keypoints"] == found["keypoints"][:1]
