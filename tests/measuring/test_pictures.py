"""The user's pictures, or a made one that says so."""

import cv2
import pytest

from cpuserve.errors import UsageError
from cpuserve.measuring.pictures import pictures


def test_a_made_picture_is_a_jpeg_of_a_photos_size_and_the_same_each_time():
    with pictures(None) as first, pictures(None) as second:
        assert first.files[0].read_bytes() == second.files[0].read_bytes()
        image = cv2.imread(str(first.files[0]))
        assert image is not None
        assert image.shape == (480, 640, 3)
        assert 50 < first.files[0].stat().st_size / 1024 < 120
        assert "made picture" in first.name
    assert not first.files[0].exists()


def test_a_directory(tmp_path):
    with pytest.raises(UsageError, match="has no picture"), pictures(tmp_path):
        pass
    for name in ("b.PNG", "a.jpg", "c.txt"):
        (tmp_path / name).write_bytes(b"x" * 1024)
    with pictures(tmp_path) as found:
        assert [file.name for file in found.files] == ["a.jpg", "b.PNG"]
        assert found.name == f"2 pictures of {tmp_path.name}, 1 KiB each on average"
