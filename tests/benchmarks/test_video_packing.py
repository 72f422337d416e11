"""Changed regions are found, and put into inputs where none covers another and no pixel is lost."""

import numpy as np
import pytest

from benchmarks.video_packing import Box, changed_regions, pack

SIDE = 208


def scene(*squares):
    """A grey ramp with white squares (left, top, side)."""
    pixels = np.tile(np.linspace(60, 120, SIDE).astype(np.uint8)[:, None, None], (1, SIDE, 3)).copy()
    for left, top, side in squares:
        pixels[top : top + side, left : left + side] = 255
    return pixels


def noise():
    """Blocks of black and white at random."""
    blocks = np.random.default_rng(0).integers(0, 2, (SIDE // 16, SIDE // 16, 1), np.uint8) * 255
    return blocks.repeat(16, 0).repeat(16, 1).repeat(3, 2)


def inside(box, region):
    return (
        region.left <= box[0]
        and region.top <= box[1]
        and region.right >= box[0] + box[2]
        and region.bottom >= box[1] + box[2]
    )


def test_what_changed_is_found_and_light_alone_is_no_change():
    squares = (16, 32, 24), (150, 160, 30)
    found = changed_regions(scene(*squares), scene(), margin=8)
    assert len(found) == 2
    assert all(any(inside(square, region) for region in found) for square in squares)
    assert changed_regions((scene() * 1.3).astype(np.uint8), scene(), margin=8) == []
    assert changed_regions(noise(), scene(), margin=8) == [Box(0, 0, SIDE, SIDE)]


def test_regions_that_overlap_are_one():
    found = changed_regions(scene((16, 16, 24), (64, 16, 24)), scene(), margin=24)
    assert len(found) == 1


@pytest.mark.parametrize("count", [1, 7, 40])
def test_regions_of_many_frames_share_inputs_and_none_is_lost(count):
    random = np.random.default_rng(count)
    frames = []
    for number in range(count):
        square = (*random.integers(0, SIDE - 64, 2).tolist(), int(random.integers(16, 60)))
        pixels = scene(square)
        frames.append((number, pixels, changed_regions(pixels, scene(), margin=8)))
    canvases = list(pack(frames, SIDE, SIDE))
    assert len(canvases) < max(2, count)
    placed = [one for canvas in canvases for one in canvas.placed]
    assert sorted((one.frame, one.region) for one in placed) == sorted(
        (number, region) for number, _, regions in frames for region in regions
    )
    for canvas in canvases:
        taken = np.zeros((SIDE, SIDE), int)
        for one in canvas.placed:
            wide, high = one.region.width, one.region.height
            taken[one.top : one.top + high, one.left : one.left + wide] += 1
            left, top, right, bottom = one.region
            there = canvas.pixels[one.top : one.top + high, one.left : one.left + wide]
            assert np.array_equal(there, frames[one.frame][1][top:bottom, left:right])
        assert taken.max() == 1
        assert (canvas.pixels[taken == 0] == 114).all()


def test_a_frame_that_changed_throughout_is_an_input_of_its_own():
    small, whole = scene((16, 16, 24)), noise()
    frames = [
        (n, one, changed_regions(one, scene(), margin=8)) for n, one in enumerate((small, whole, small))
    ]
    canvases = list(pack(frames, SIDE, SIDE))
    assert [canvas.frames() for canvas in canvases] == [1, 1, 1]
    assert np.array_equal(canvases[1].pixels, whole)
