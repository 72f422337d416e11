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


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda file: file.mkdir(), "Is a directory"),
        (lambda file: file.symlink_to("nowhere"), "No such file or directory"),
        (lambda file: file.symlink_to(file.name), "Too many levels of symbolic links"),
    ],
    ids=["directory", "broken link", "circle"],
)
def test_what_cannot_be_sent_is_refused_before_anything_is_measured(tmp_path, make, reason):
    (tmp_path / "a.jpg").write_bytes(b"x")
    make(tmp_path / "b.jpg")
    words = f"b.jpg cannot be read: {reason}; every picture of the directory is sent"
    with pytest.raises(UsageError, match=words), pictures(tmp_path):
        pass
