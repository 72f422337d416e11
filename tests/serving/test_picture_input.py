"""Feeding pictures into rows."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from cpuserve.errors import RequestError
from cpuserve.models.card import Card
from cpuserve.serving.graph import ImageInput
from cpuserve.serving.picture_input import PictureInput, PictureSize


def picture_input(channels: int = 3, **card: object) -> PictureInput:
    source = ImageInput("input", 64, 48, channels, "NHWC")
    return PictureInput.of(source, Card(**card), exact=False, max_pixels=32_000_000)  # type: ignore[arg-type]


def test_a_row_as_the_card_says(data_dir: Path) -> None:
    file = data_dir / "images" / "orange.png"
    row = picture_input(reverse_input_channels=True).row(file.read_bytes())
    pixels = cv2.resize(cv2.imread(str(file), cv2.IMREAD_COLOR_RGB), (64, 48))  # type: ignore[arg-type]
    assert np.array_equal(row, pixels)
    assert picture_input(channels=1).row(file.read_bytes()).shape == (48, 64, 1)


@pytest.mark.parametrize(("name", "size"), [("mug_8mp.jpg", (3361, 2521)), ("orange.png", None)])
def test_the_frame_is_the_whole_picture(data_dir: Path, name: str, size: tuple[int, int] | None) -> None:
    """Also where a JPEG is decoded at a fraction of its size."""
    data = (data_dir / "images" / name).read_bytes()
    row = np.empty((48, 64, 3), np.uint8)
    height, width = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2]  # type: ignore[union-attr]
    assert picture_input().into(data, row) == PictureSize(width, height)
    assert size is None or size == (width, height)


def test_the_frame_of_a_turned_picture_is_upright(data_dir: Path) -> None:
    for file in sorted((data_dir / "images" / "formats").glob("*exif*")):
        upright = cv2.imread(str(file), cv2.IMREAD_COLOR)
        assert upright is not None
        frame = picture_input().into(file.read_bytes(), np.empty((48, 64, 3), np.uint8))
        assert frame == PictureSize(upright.shape[1], upright.shape[0])
        break
    else:
        pytest.fail("no turned picture in the test data")


def test_what_is_no_picture() -> None:
    with pytest.raises(RequestError):
        picture_input().row(b"no picture")
