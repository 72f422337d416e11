"""Inputs of a job: folders, patterns, text lists, file:// and what fsspec reads; each once, in order."""

from __future__ import annotations

import os
import sys

import pytest

from cpuserve.batch.remote_files import read_remote
from cpuserve.batch.sources import find_inputs, is_remote, local_path
from cpuserve.errors import MissingExtra, UsageError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("b.jpg", "a.PNG", "deep/c.webp", "deep/v.mp4", "notes.md", "odd [1].jpg", "50%41.jpg"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(name.encode())
    monkeypatch.chdir(tmp_path)
    return tmp_path / "in"


def names(*arguments):
    return [one.uri for one in find_inputs(arguments)]


def test_a_folder_gives_pictures_and_videos_at_any_depth_by_name(folder):
    os.mkfifo(folder / "pipe.jpg")  # to open it would wait for ever
    assert names("in/") == [
        "in/50%41.jpg",
        "in/a.PNG",
        "in/b.jpg",
        "in/odd [1].jpg",
        "in/deep/c.webp",
        "in/deep/v.mp4",
    ]
    assert [one.is_video for one in find_inputs(["in"])] == [False] * 5 + [True]
    assert find_inputs(["in/b.jpg"])[0].size == 5
    assert find_inputs(["in/b.jpg"])[0].changed_ns > 0


def test_what_is_named_twice_comes_once_where_it_came_first(folder):
    assert names("in/b.jpg", "in/a.PNG", "in/b.jpg", "in/*.jpg") == [
        *("in/b.jpg", "in/a.PNG", "in/50%41.jpg", "in/odd [1].jpg")
    ]


def test_a_file_with_the_characters_of_a_pattern_is_that_file(folder):
    assert names("in/odd [1].jpg") == ["in/odd [1].jpg"]


def test_a_pattern_reaches_any_depth(folder):
    assert names("in/**/*.webp") == ["in/deep/c.webp"]


def test_an_address_of_a_file_is_a_file(folder):
    found = find_inputs([f"file://{folder}"])
    assert f"file://{folder}/50%2541.jpg" in [one.uri for one in found]
    for one in found:
        assert local_path(one.uri, folder).exists(), one


@pytest.mark.parametrize("ending", ["txt", "lst", "list"])
def test_a_list_is_relative_to_its_folder_and_may_name_what_is_not_there(folder, ending):
    (folder / f"l.{ending}").write_text(
        f"# all\nb.jpg\n\n  deep/*.webp\n{folder}/a.PNG\ngone.jpg\nfile://{folder}/b.jpg\n"
    )
    found = find_inputs([f"in/l.{ending}"])
    assert [one.uri for one in found] == [
        *("in/b.jpg", "in/deep/c.webp", f"{folder}/a.PNG", "in/gone.jpg", f"file://{folder}/b.jpg")
    ]
    assert found[3].size == -1


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("in/gone.jpg", "no file in/gone.jpg"),
        ("in/*.tiff", "fits the pattern"),
        ("empty", "has no picture and no video"),
        ("file:///nonexistent/a.jpg", "no file file:"),
        ("binary.txt", "cannot be read"),
        ("http://127.0.0.1/folder/", "cannot be listed"),
        ("nonsense://place/a.jpg", "nonsense"),
        ("memory://gone/a.jpg", "no file memory"),
    ],
)
def test_what_is_not_there_is_refused(folder, tmp_path, argument, words):
    pytest.importorskip("fsspec")
    (tmp_path / "empty").mkdir()
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=words):
        find_inputs([argument])


@pytest.fixture
def store():
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for name in ("day/b.jpg", "day/a.png", "day/deep/c.jpg", "day/notes.md"):
        memory.pipe(f"memory://bucket/{name}", name.encode())
    yield memory
    memory.rm("memory://bucket", recursive=True)


def test_a_store_is_listed_and_read(store):
    found = find_inputs(["memory://bucket/day"])
    assert [one.uri.split("bucket/")[1] for one in found] == ["day/a.png", "day/b.jpg", "day/deep/c.jpg"]
    assert [one.size for one in found] == [9, 9, 14]
    assert read_remote(found[0].uri) == b"day/a.png"
    assert all(is_remote(one.uri) for one in found)
    with pytest.raises(OSError):
        read_remote("memory://bucket/gone.jpg")


def test_a_video_of_a_store_is_refused(store):
    store.pipe("memory://bucket/day/v.mp4", b"video")
    with pytest.raises(UsageError, match=r"v\.mp4: videos are read from this machine's files"):
        find_inputs(["memory://bucket/day"])


def test_without_fsspec_its_extra_is_named(monkeypatch):
    for name in ("fsspec", "fsspec.core"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"s3:// needs fsspec"):
        find_inputs(["s3://bucket/day"])


def test_without_the_package_of_a_store_that_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingExtra, match=r"s3:// needs a package beside fsspec: .*pip install s3fs$"):
        find_inputs(["s3://bucket/day"])


def test_a_read_that_fails_is_tried_again(store, monkeypatch):
    monkeypatch.setattr("cpuserve.batch.remote_files._PAUSES_S", (0.0, 0.0))
    tried = []

    def flaky(_self, path):
        tried.append(path)
        if len(tried) < 3:
            raise TimeoutError("slow")
        return b"picture"

    monkeypatch.setattr(type(store), "cat_file", flaky)
    assert read_remote("memory://bucket/day/a.png") == b"picture"
    monkeypatch.setattr("cpuserve.batch.remote_files._PAUSES_S", ())
    tried.clear()
    with pytest.raises(OSError, match="slow"):
        read_remote("memory://bucket/day/a.png")
