"""The lock of a directory belongs to one holder, and not to a directory that is gone."""

import os
from pathlib import Path

from cpuserve.models import directories
from cpuserve.models.directories import sync_tree, try_lock


def test_one_holder_has_the_lock_until_it_lets_go(tmp_path):
    lock = try_lock(tmp_path)
    assert lock is not None
    assert try_lock(tmp_path) is None
    os.close(lock)
    lock = try_lock(tmp_path)
    assert lock is not None
    os.close(lock)


def test_nothing_is_locked_where_there_is_no_directory(tmp_path):
    assert try_lock(tmp_path / "none") is None
    (tmp_path / "file").write_text("")
    assert try_lock(tmp_path / "file") is None


def test_a_directory_that_was_replaced_while_it_was_locked_is_not_ours(tmp_path, monkeypatch):
    place = tmp_path / "place"
    place.mkdir()
    flock = directories.fcntl.flock

    def replaced(descriptor, how):
        flock(descriptor, how)
        place.rename(tmp_path / "old")
        place.mkdir()

    monkeypatch.setattr(directories.fcntl, "flock", replaced)
    assert try_lock(place) is None


def test_every_file_and_directory_below_is_written_to_the_disk(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("x")
    written = []
    fsync = os.fsync

    def remember(descriptor):
        written.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", remember)
    sync_tree(tmp_path)
    assert {*written} == {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")}
    assert written[-1] == str(tmp_path)
