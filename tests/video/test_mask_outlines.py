"""Outlines drawn again cover what the mask covered, with few points."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest

from cpuserve.video.mask_outlines import outline_path

STEP = re.compile(r"-?\d+")
_NEXT = r"(?: |(?=-))-?\d+"  # a space, or a minus alone
PATH = re.compile(rf"(?:m-?\d+{_NEXT}l-?\d+(?:{_NEXT})+z)*")


def drawn(path, shape):
    """The mask that a path of relative polygons fills by the rule evenodd, and how many points it has."""
    mask, at, count = np.zeros(shape, np.uint8), np.zeros(2, int), 0
    assert PATH.fullmatch(path)
    for outline in path.split("z")[:-1]:
        numbers = [int(step) for step in STEP.findall(outline)]
        steps = np.array(numbers).reshape(-1, 2)
        points = at + np.cumsum(steps, axis=0)
        at, count = points[0], count + len(points)
        whole = np.zeros(shape, np.uint8)
        # polygons run along pixels' edges: a pixel is inside when its middle is
        rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
        polygon = points.astype(np.float32).reshape(-1, 1, 2)
        for row, column in zip(rows.flat, columns.flat, strict=True):
            inside = cv2.pointPolygonTest(polygon, (column + 0.5, row + 0.5), measureDist=False)
            whole[row, column] = inside > 0
        mask ^= whole
    return mask.astype(bool), count


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


def test_nothing_has_no_outline():
    assert outline_path(np.zeros((30, 40), bool), 100) == ""


def test_a_rectangle_is_four_points_along_its_edges():
    mask = np.zeros((30, 40), bool)
    mask[5:20, 10:40] = True  # up to the right edge
    assert outline_path(mask, 100) == "m10 5l0 15 30 0 0-15z"


def test_everything_is_the_frame_of_the_picture():
    assert outline_path(np.ones((30, 40), bool), 4) == "m0 0l0 30 40 0 0-30z"


def test_holes_stay_holes_and_islands_in_them_islands():
    mask = np.zeros((60, 60), bool)
    mask[5:55, 5:55] = True
    mask[15:45, 15:45] = False
    mask[25:35, 25:35] = True
    found, count = drawn(outline_path(mask, 100), mask.shape)
    assert (found == mask).all()
    assert count == 12


def test_noise_of_a_few_pixels_is_left_out():
    mask = np.zeros((100, 100), bool)
    mask[20:70, 20:70] = True
    mask[40, 40] = False
    mask[90, 90] = True
    found, _ = drawn(outline_path(mask, 100), mask.shape)
    assert found[40, 40]
    assert not found[90, 90]


def people():
    """Shapes with round and ragged edges, several of them."""
    rng = np.random.default_rng(3)
    noise = cv2.GaussianBlur(rng.random((90, 120)).astype(np.float32), (0, 0), 5)
    return noise > np.quantile(noise, 0.6)


@pytest.mark.parametrize(("most", "alike"), [(400, 0.95), (150, 0.85), (60, 0.6), (12, 0.1), (4, 0)])
def test_the_points_are_bounded_and_what_is_left_is_as_near_as_they_allow(most, alike):
    mask = people()
    found, count = drawn(outline_path(mask, most), mask.shape)
    assert 0 < count <= most
    assert overlap(found, mask) >= alike
