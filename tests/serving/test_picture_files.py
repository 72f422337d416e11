"""Pictures of a directory are found by their endings."""

from __future__ import annotations

import pytest

from cpuserve.errors import UsageError
from cpuserve.serving.picture_files import pictures_in


def test_pictures_are_sorted_by_name_and_others_are_left_out(tmp_path):
    for name in ("b.JPG", "a.png", "c.jfif", "notes.txt", "below/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert pictures_in(tmp_path) == (tmp_path / "a.png", tmp_path / "b.JPG", tmp_path / "c.jfif")


def test_a_directory_without_pictures_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match=r"has no picture; a picture ends in \.bmp"):
        pictures_in(tmp_path)
