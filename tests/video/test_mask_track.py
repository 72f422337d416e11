"""The SVG files: whole pictures of their own, changes only, and a beginning in every file."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from cpuserve.errors import CpuserveError
from cpuserve.video.mask_track import FILE_S, MaskTrackWriter

SVG = "{http://www.w3.org/2000/svg}"
SQUARE, OTHER = "m1 1l2 0 0 2z", "m2 2l2 0 0 2z"


def read(file):
    """Beginning, end and the moments of a file."""
    root = ElementTree.parse(file).getroot()  # noqa: S314  # written here
    assert root.tag == f"{SVG}svg"
    moments = [(float(path.get("data-t")), path.get("d")) for path in root.iter(f"{SVG}path")]
    return float(root.get("data-start")), float(root.get("data-end")), moments


def written(folder, frames):
    writer = MaskTrackWriter(folder, 320, 180, "a <video> & more")
    for time_s, path in frames:
        writer.put(time_s, path)
    return writer.finish()


def test_only_changes_are_kept_and_each_file_begins_with_what_holds(tmp_path):
    frames = [(0, ""), (0.04, SQUARE), (0.08, SQUARE), (3.96, OTHER), (4.04, OTHER), (5, SQUARE), (16.5, "")]
    track = written(tmp_path, frames)
    assert track.times == [0, 0.04, 3.96, 5, 16.5]
    assert track.paths == ["", SQUARE, OTHER, SQUARE, ""]
    assert track.files == [f"0000{number}.svg" for number in range(5)]
    read_files = [read(tmp_path / name) for name in track.files]
    assert [start for start, _, _ in read_files] == [FILE_S * number for number in range(5)]
    assert [moments for _, _, moments in read_files] == [
        [(0, ""), (0.04, SQUARE), (3.96, OTHER)],
        [(4, OTHER), (5, SQUARE)],
        [(8, SQUARE)],
        [(12, SQUARE)],
        [(16, SQUARE), (16.5, "")],
    ]
    assert track.size_bytes == sum((tmp_path / name).stat().st_size for name in track.files)
    assert track.bytes_per_minute == pytest.approx(track.size_bytes * 60 / 16.5)


def test_a_change_at_the_beginning_of_a_file_takes_the_place_of_what_held(tmp_path):
    track = written(tmp_path, [(0, SQUARE), (4, OTHER), (8.0000001, SQUARE)])
    assert [read(tmp_path / name)[2] for name in track.files] == [[(0, SQUARE)], [(4, OTHER)], [(8, SQUARE)]]


def test_files_of_an_earlier_track_go_and_others_stay(tmp_path):
    for name in ("00007.svg", "logo.svg"):
        (tmp_path / name).write_text("old")
    written(tmp_path, [(0, SQUARE)])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["00000.svg", "logo.svg"]


def test_a_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CpuserveError, match="file cannot be written to"):
        MaskTrackWriter(tmp_path / "file", 1, 1, "")
