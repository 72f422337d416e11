"""The file of a run is read as it was written, goes on where it was cut, and refuses what is none."""

import math

import pytest

from cpuserve.errors import CpuserveError, UsageError
from cpuserve.video.cascade_choice import DecidedBy
from cpuserve.video.frame_labels import LabelledFrame
from cpuserve.video.label_file import LABEL_COLUMNS, LabelFile, read_labels

FRAMES = [
    LabelledFrame(0, DecidedBy.REFERENCE, True, math.inf, 0.5, reference=0.875, truth=True),
    LabelledFrame(1, DecidedBy.SKIPPED, True),
    LabelledFrame(2, DecidedBy.DIFFERENCE, True, 1.25e-05, truth=False, audit=0.01, reference=0.0),
    LabelledFrame(3, DecidedBy.SPECIALISED, False, 30.5, 0.001953125),
    LabelledFrame(4, DecidedBy.PACKETS, False, packets=0.25),
]


def write(path, frames=FRAMES, keep=0):
    with LabelFile(path, keep) as file:
        for frame in frames:
            file.append(frame, 512 * frame.number, frame.number / 25)


def as_read(frame):
    return repr(frame).replace("difference=inf", "difference=nan")  # there is nothing to compare with


@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl"])
def test_frames_are_read_as_they_were_written(tmp_path, name):
    write(tmp_path / "new" / name)
    assert [repr(one) for one in read_labels(tmp_path / "new" / name)] == [as_read(one) for one in FRAMES]


def test_csv_has_the_columns_that_are_documented(tmp_path):
    write(tmp_path / "labels.csv", FRAMES[2:3])
    head, line = (tmp_path / "labels.csv").read_text().splitlines()
    assert head.split(",") == list(LABEL_COLUMNS)
    assert line == "2,1024,0.08,difference,1.25e-05,,,0.0,0.01,0,1"


@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl"])
def test_a_file_goes_on_behind_the_lines_that_are_kept(tmp_path, name):
    path = tmp_path / name
    write(path)
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(whole[-9:-3])  # the writer was killed
    assert len(list(read_labels(path))) == len(FRAMES)
    write(path, FRAMES[3:], keep=3)
    assert path.read_bytes() == whole


def test_what_is_no_such_file_is_refused_with_its_line(tmp_path):
    with pytest.raises(UsageError, match=r"written to files .csv or .jsonl, not to labels.txt"):
        LabelFile(tmp_path / "labels.txt")
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        list(read_labels(tmp_path / "labels.csv"))
    write(tmp_path / "labels.csv")
    for old, new in (("specialised", "special"), ("skipped,", "skipped"), (",1\n", ",2\n"), ("0.5", "half")):
        text = (tmp_path / "labels.csv").read_text()
        (tmp_path / "wrong.csv").write_text(text.replace(old, new, 1 if old != "specialised" else 2))
        with pytest.raises(UsageError, match=r"wrong.csv, line \d, is no labelled frame"):
            list(read_labels(tmp_path / "wrong.csv"))
    (tmp_path / "wrong.jsonl").write_text('{"frame": 1\n')
    with pytest.raises(UsageError, match=r"wrong.jsonl, line 1, is no labelled frame"):
        list(read_labels(tmp_path / "wrong.jsonl"))


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "labels.csv").mkdir()
    with pytest.raises(CpuserveError, match=r"labels.csv cannot be written: Is a directory"):
        LabelFile(tmp_path / "labels.csv")
