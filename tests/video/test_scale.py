"""What is taken of a frame, and where it lies in the scaled pixels."""

from __future__ import annotations

import pytest

from cpuserve.video.scale import Scale


@pytest.mark.parametrize(
    ("fit", "taken", "placed"),
    [
        ("standard", (0, 0, 1920, 1080), (0, 0, 416, 416)),
        ("crop", (420, 0, 1080, 1080), (0, 0, 416, 416)),
        ("fit_to_window", (0, 0, 1920, 1080), (0, 0, 416, 234)),
        ("fit_to_window_letterbox", (0, 0, 1920, 1080), (0, 91, 416, 234)),
    ],
)
def test_a_frame_is_fitted_as_the_picture_recipe_says(fit, taken, placed):
    assert Scale(416, 416, fit=fit).windows(1920, 1080) == (taken, placed)


def test_a_region_is_cut_out_before_the_fit():
    taken, placed = Scale(100, 100, region=(0.5, 0.25, 1, 0.75), fit="crop").windows(400, 200)
    assert taken == (250, 50, 100, 100)
    assert placed == (0, 0, 100, 100)


def test_the_smallest_region_has_a_pixel():
    taken, _ = Scale(10, 10, region=(1, 1, 1, 1)).windows(64, 48)
    assert taken == (63, 47, 1, 1)


def test_an_unknown_fit_is_refused():
    with pytest.raises(ValueError, match="fit is one of standard, crop"):
        Scale(1, 1, fit="stretch")
