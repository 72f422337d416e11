"""Files, directories, patterns and addresses of videos."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cpuserve.errors import UsageError
from cpuserve.video.video_sources import VideoSource, find_videos


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("b.mp4", "a.MKV", "notes.txt", "deep/c.avi", "odd [1].mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_directory_is_searched_to_any_depth_by_name(folder):
    found = find_videos([str(folder)])
    assert [source.place for source in found] == ["a.MKV", "b.mp4", "deep/c.avi", "odd [1].mp4"]
    assert found[2].name == str(folder / "deep" / "c.avi")


def test_files_stay_in_their_order_without_doubles(folder):
    assert [source.name for source in find_videos(["b.mp4", "a.MKV", "b.mp4", "notes.txt"])] == [
        *("b.mp4", "a.MKV", "notes.txt")
    ]


def test_patterns_are_filled_in_where_the_shell_did_not(folder):
    assert [source.name for source in find_videos(["*.mp4"])] == ["b.mp4", "odd [1].mp4"]
    assert [source.name for source in find_videos(["**/*.avi"])] == ["deep/c.avi"]


def test_a_file_whose_name_looks_like_a_pattern_is_itself(folder):
    assert [source.name for source in find_videos(["odd [1].mp4"])] == ["odd [1].mp4"]


@pytest.mark.parametrize("name", ["rtsp://me:secret@10.0.0.1/stream1", "http://camera:81/mjpg"])
def test_addresses_and_cameras_are_live(name):
    (source,) = find_videos([name])
    assert source.live
    assert source.address == name
    assert "/" not in source.place
    assert "secret" not in source.place


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nowhere.mp4", "there is no video nowhere.mp4"),
        ("*.webm", r"no file fits the pattern \*.webm"),
        ("empty", "the directory empty has no video: files with one of the suffixes .* .mp4"),
    ],
)
def test_what_is_not_there_is_refused(folder, name, why):
    with pytest.raises(UsageError, match=why):
        find_videos([name])


def test_a_name_that_no_output_could_hold_is_refused(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.mp4")).write_bytes(b"x")
    for named in (str(tmp_path), str(tmp_path / os.fsdecode(b"\xff.mp4")), f"{tmp_path}/*.mp4"):
        with pytest.raises(UsageError, match=r"the name of the video .*/\\xff\.mp4 is no UTF-8"):
            find_videos([named])


def test_a_camera_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(UsageError, match=r"there is no camera /dev/video4711; there are: "):
        find_videos(["/dev/video4711"])


def test_a_camera_is_live(monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == "/dev/video0")
    (source,) = find_videos(["/dev/video0"])
    assert (source.name, source.place, source.live) == ("/dev/video0", "dev-video0", True)


def test_an_address_of_a_file_is_the_file(folder):
    (source,) = find_videos([(folder / "odd [1].mp4").as_uri()])
    assert (source.name, source.live) == (str(folder / "odd [1].mp4"), False)


def test_the_password_of_an_address_is_in_no_name():
    (source,) = find_videos(["rtsp://me:se@cret@camera:554/live?way=1"])
    assert (source.name, source.place) == ("rtsp://camera:554/live?way=1", "rtsp-camera-554-live-way-1")
    assert source.address == "rtsp://me:se@cret@camera:554/live?way=1"
    assert "cret" not in repr(source)
    (plain,) = find_videos(["rtsp://camera/1"])
    assert plain == VideoSource("rtsp://camera/1", "rtsp-camera-1", live=True)
    assert plain.address == plain.name


@pytest.mark.parametrize("closed", [".", "deep"])
def test_a_directory_that_cannot_be_read_is_refused(folder, monkeypatch, closed):
    place = folder if closed == "." else folder / closed
    scan = os.scandir

    def refuse(path):  # as the kernel does, but to root
        if Path(path) == place:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UsageError, match=rf"the directory {place} cannot be read: Permission denied"):
        find_videos([str(folder)])
