"""The client shrinks pictures before it sends them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from cpuserve.client import shrink


def size(picture: bytes) -> tuple[int, int]:
    pixels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return pixels.shape[1], pixels.shape[0]


def test_shrink_makes_the_smallest_picture_that_covers_the_input(data_dir: Path) -> None:
    picture = (data_dir / "images" / "mug_8mp.jpg").read_bytes()
    small = shrink(picture, 224, 224)
    assert size(small) == (299, 224)
    assert len(small) < len(picture) / 20
    for name in ("orange.png", "bird.bmp", "formats/grace_hopper_exif6.jpg", "formats/hot_dog_cmyk.jpg"):
        picture = (data_dir / "images" / name).read_bytes()
        small = shrink(picture, 100, 80)
        width, height = size(small)
        assert min(width - 100, height - 80) == 0, name
        assert width / height == pytest.approx(size(picture)[0] / size(picture)[1], rel=0.03)


def test_shrink_returns_a_picture_it_cannot_make_smaller_or_read(data_dir: Path) -> None:
    small = (data_dir / "images" / "golden_retriever.jpeg").read_bytes()
    assert shrink(small, 2000, 2000) is small
    for bad in (
        b"",
        b"no picture",
        b"\xff\xd8 no picture",
        (data_dir / "images/orange.png").read_bytes()[:99],
    ):
        assert shrink(bad, 224, 224) is bad
