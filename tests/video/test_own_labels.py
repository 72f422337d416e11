"""Labels of the user's own: files that are read, and files that are refused."""

from __future__ import annotations

import numpy as np
import pytest

from cpuserve.errors import UsageError
from cpuserve.video.own_labels import OwnLabels, read_labels
from cpuserve.video.query import Query


def written(tmp_path, text: str) -> OwnLabels:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return read_labels(path)


def test_frames_that_are_not_named_have_no_objects(tmp_path):
    found = written(
        tmp_path,
        "frame,object_name,confidence,xmin,ymin,xmax,ymax\n"
        "2,car,0.9,0,0,100,90\n# a note\n\n2,bus,0.8,0,0,10,20\n4,car,0.3,0,0,100,90\n",
    )
    label, score, labelled = found.labels(Query.parse("car,bus@0,0.5,1,1"), np.arange(6), 200, 100)
    assert label.tolist() == [False, False, True, False, False, False]
    assert score == pytest.approx([0, 0, 0.9, 0, 0.3, 0])
    assert labelled.all()


def test_where_empty_frames_are_named_the_others_are_not_labelled(tmp_path):
    found = written(tmp_path, "0,,,,,,\n2,vehicle\n3,vehicle,,,,,\n")
    label, score, labelled = found.labels(Query.parse("vehicle"), np.arange(5), 200, 100)
    assert labelled.tolist() == [True, False, True, True, False]
    assert label.tolist() == [False, False, True, True, False]
    assert score.tolist() == [0, 0, 1, 1, 0]
    with pytest.raises(UsageError, match=r"frame 2 of .*labels\.csv has an object without a box"):
        found.labels(Query.parse("vehicle@0,0,1,0.5"), np.arange(5), 200, 100)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "have no line"),
        ("frame,object_name,confidence,xmin,ymin,xmax,ymax\n", "have no line"),
        ("one,car\n", "line 1 of .* is 'one,car'"),
        ("-1,car\n", "frames begin with 0"),
        ("0,car,1.5\n", "a confidence is from 0 to 1"),
        ("0,car,nan\n", "a confidence is from 0 to 1"),
        ("0,car,0.5,1,2,3\n", "line 1 of .* is '0,car,0.5,1,2,3'"),
        ("0,car,0.5,10,0,5,9\n", "a box goes from xmin"),
        ("0,car,0.5,1,2,3,4,5\n", "has 8 columns, not 7"),
    ],
)
def test_lines_that_are_no_labels_are_refused(tmp_path, text, reason):
    with pytest.raises(UsageError, match=reason):
        written(tmp_path, text)


def test_files_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "labels.csv"
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_labels(path)
    path.write_bytes(b"\xff\x00\xfe")
    with pytest.raises(UsageError, match="are no text"):
        read_labels(path)
