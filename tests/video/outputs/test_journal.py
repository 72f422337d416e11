"""A journal is whole again after its writer was killed."""

from __future__ import annotations

import pytest

from cpuserve.errors import CpuserveError
from cpuserve.video.outputs.journal import FrameJournal, read_lines


@pytest.mark.parametrize("tail", [b"", b'{"frame":2', b'{"frame":2}', b"x" * 3_000_000])
def test_a_line_that_was_not_written_to_its_end_is_written_anew(tmp_path, tail):
    path = tmp_path / "frames.jsonl"
    path.write_bytes(b'{"frame":0}\n{"frame":1}\n' + tail)
    with FrameJournal(path) as journal:
        assert [line["frame"] for line in read_lines(path)] == [0, 1]
        journal.append({"frame": 2})
        assert [line["frame"] for line in read_lines(path)] == [0, 1, 2]
    assert path.read_bytes() == b'{"frame":0}\n{"frame":1}\n{"frame":2}\n'


def test_a_file_without_any_end_of_line_is_emptied(tmp_path):
    path = tmp_path / "frames.jsonl"
    path.write_bytes(b'{"fra')
    with FrameJournal(path):
        assert path.read_bytes() == b""


def test_the_first_lines_can_be_kept_alone(tmp_path):
    path = tmp_path / "frames.jsonl"
    with FrameJournal(path) as journal:
        for frame in range(5):
            journal.append({"frame": frame})
        journal.keep(9)
        assert len([*read_lines(path)]) == 5
        journal.keep(2)
        journal.append({"frame": 7})
    assert [line["frame"] for line in read_lines(path)] == [0, 1, 7]


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "frames.jsonl"
    path.write_bytes(b'{"frame":0}\n\0\0\0\n')
    with pytest.raises(CpuserveError, match=r"frames.jsonl, line 2, is damaged .* --overwrite"):
        [*read_lines(path)]


def test_what_cannot_be_written_is_named(tmp_path):
    with pytest.raises(CpuserveError, match=r"nowhere/frames.jsonl cannot be written: No such file"):
        FrameJournal(tmp_path / "nowhere" / "frames.jsonl")


def test_a_full_disk_is_named():
    from pathlib import Path

    journal = FrameJournal.__new__(FrameJournal)
    journal.path, journal._file = Path("/dev/full"), Path("/dev/full").open("wb")  # noqa: SIM115
    with pytest.raises(CpuserveError, match=r"/dev/full cannot be written: No space left"):
        journal.append({"frame": 0})
    with pytest.raises(CpuserveError, match="No space left"):
        journal.close()
