"""Where pictures come to lie in a model's input, and back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cpuserve.serving.preprocess import RESIZE_TYPES, Resizer
from tests.serving.test_decode import TURNS


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("resize_type", RESIZE_TYPES)
@pytest.mark.parametrize("size", [(300, 180), (173, 301)])
def test_a_spot_in_the_input_is_found_again_in_the_picture(resize_type, orientation, size):
    """The spot is put into the picture as it is stored; where it is upright OpenCV says."""
    stored = np.zeros((size[1], size[0], 3), np.uint8)
    cv2.circle(stored, (size[0] * 2 // 5, size[1] * 3 // 5), 12, (255, 255, 255), cv2.FILLED)
    upright = TURNS[orientation](stored)
    row = np.empty((96, 128, 3), np.uint8)
    resizer = Resizer(128, 96, resize_type)
    resizer.into(row, stored, orientation)

    place = resizer.placement(upright.shape[1], upright.shape[0])
    found = place.to_picture(np.array([middle(row)]))
    assert found[0] == pytest.approx(middle(upright), abs=0.6)


def middle(pixels):
    """The middle of what is white, from the corner of the corner pixel."""
    weights = pixels[:, :, 0].astype(float)
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]] + 0.5
    return np.array([(x * weights).sum(), (y * weights).sum()]) / weights.sum()


def test_placements_by_hand():
    assert Resizer(100, 50).placement(200, 200) == (0.5, 0.25, 0, 0)
    assert Resizer(100, 100, "fit_to_window").placement(200, 50) == (0.5, 0.5, 0, 0)
    assert Resizer(100, 100, "fit_to_window_letterbox").placement(200, 50) == (0.5, 0.5, 0, 37)
    assert Resizer(100, 100, "crop").placement(400, 200) == (0.5, 0.5, -50, 0)
    boxes = Resizer(100, 100, "crop").placement(400, 200).to_picture(np.array([[0, 0, 100, 100.0]]))
    assert boxes.tolist() == [[100, 0, 300, 200]]
