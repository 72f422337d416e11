"""The client shrinks pictures before it sends them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from cpuserve.client import shrink
from cpuserve.serving.decode import Decoder
from tests.made_pictures import FOUR, encoded, exif, segment, tiff, with_segments


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


def middle_of_quarters(picture: bytes) -> list[list[int]]:
    pixels = Decoder("RGB", exact=True).decode(picture).pixels.astype(int)
    height, width = pixels.shape[:2]
    return [pixels[y, x].tolist() for y in (height // 4, -height // 4) for x in (width // 4, -width // 4)]


LARGE = np.kron(FOUR, np.ones((8, 8, 1), np.uint8))
FAR_EXIF = with_segments(
    *[segment(0xED, b"x" * 9000)] * 2, segment(0xE1, b"Exif\0\0" + exif(6)), data=encoded("JPEG", LARGE)
)
TIFF_ALPHA = tiff(
    *(8, 2, np.dstack([LARGE, np.full(LARGE.shape[:2], 9, np.uint8)]).tobytes(), 4),
    width=512,
    height=384,
    tags={338: (3, [2])},
)


@pytest.mark.parametrize(
    ("picture", "turns"),
    [(encoded("JPEG", LARGE), 0), (FAR_EXIF, -1), (TIFF_ALPHA, 0)],
    ids=["JPEG", "EXIF behind other segments", "TIFF with alpha"],
)
def test_shrink_sees_what_the_server_sees(picture: bytes, turns: int) -> None:
    small = shrink(picture, 40, 40)
    assert small is not picture
    want = middle_of_quarters(encoded("PNG", np.rot90(LARGE, turns)))
    assert np.abs(np.subtract(middle_of_quarters(small), want)).max() <= 12


def test_shrink_makes_a_jpeg_of_a_format_that_the_server_does_not_take() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (384, 512, 3), np.uint8)
    small = shrink(encoded("AVIF", noise), 40, 30)
    assert small.startswith(b"\xff\xd8\xff")
    assert size(small) == (40, 30)


def test_shrink_sends_a_refused_picture_as_it_is_so_that_the_server_says_why() -> None:
    floats = tiff(32, 1, np.zeros((384, 512), np.float32).tobytes(), width=512, height=384)
    assert shrink(floats, 40, 40) is floats


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
