"""Files of labels are compared frame by frame, and bad ones are named with their line."""

import json

import numpy as np
import pytest

from cpuserve.errors import UsageError
from cpuserve.video.cascade_choice import DecidedBy
from cpuserve.video.evaluation import evaluate
from cpuserve.video.frame_labels import LabelledFrame
from cpuserve.video.label_file import LabelFile
from tests.video.made_scores import made_table


def write(path, labels, first=0):
    path.write_text("frame,label\n" + "".join(f"{first + n},{int(v)}\n" for n, v in enumerate(labels)))
    return path


def test_errors_are_counted_by_window_frame_and_stage(tmp_path):
    truth = [0] * 60 + [1] * 60
    labels, stages = list(truth), [DecidedBy.DIFFERENCE] * 60 + [DecidedBy.SPECIALISED] * 60
    labels[90:95] = [0] * 5
    labels[10] = 1
    for name in ("run.csv", "run.jsonl"):
        with LabelFile(tmp_path / name) as file:
            for number, (label, stage) in enumerate(zip(labels, stages, strict=True)):
                frame = LabelledFrame(number=number, stage=stage, label=bool(label))
                file.append(frame, pts=number, time_s=number / 30)
        found = evaluate(tmp_path / name, write(tmp_path / "truth.csv", truth))
        assert (found.accuracy.fn.wrong, found.accuracy.fn.of) == (1, 2)
        assert (found.accuracy.fp.wrong, found.accuracy.fp.of) == (0, 2)
        assert found.accuracy.frames_fn.wrong == 5
        rows = [(one.stage, one.frames, one.missed, one.invented) for one in found.stages]
        assert rows == [("difference", 60, 0, 1), ("specialised", 60, 5, 0)]


def test_frames_of_one_file_alone_are_left_out_and_counted(tmp_path):
    labels, truth = write(tmp_path / "a.csv", [1] * 100), write(tmp_path / "b.csv", [1] * 100, first=20)
    found = evaluate(labels, truth)
    assert (found.frames, found.only_labels, found.only_truth) == (80, 20, 20)
    assert (found.accuracy.windows, found.accuracy.left_out) == (2, 20)  # frames 30 to 89
    assert found.stages == ()


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_scores_are_true_labels(tmp_path, ending):
    table = made_table(300)
    table.save(tmp_path / f"scores.{ending}")
    found = evaluate(write(tmp_path / "a.csv", ~np.asarray(table.label)), tmp_path / f"scores.{ending}")
    assert found.accuracy.frames_fn.value == found.accuracy.frames_fp.value == 1.0


def test_order_and_form_do_not_matter(tmp_path):
    (tmp_path / "a.csv").write_text("# frame,status,label\n2,x,TRUE\n0,x,false\n1,x,0\n")
    lines = [{"frame": 1, "label": False}, {"label": 0, "frame": 0}, {"frame": 2, "label": 1, "more": [1]}]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = evaluate(tmp_path / "a.csv", tmp_path / "b.jsonl")
    assert (found.frames, found.accuracy.frames_fn.wrong, found.accuracy.frames_fp.wrong) == (3, 0, 0)
    assert found.stages == ()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "", "has no column frame and no column label"),
        ("a.csv", "frame,label\n", "has no labels"),
        ("a.csv", "frame,score\n1,1\n", "has no column label"),
        ("a.csv", "frame,label\n1,1\n2,2\n", "line 3: the label of frame 2 is 0 or 1, not '2'"),
        ("a.csv", "frame,label\n1,1\n2\n", "line 3: the label of frame 2 is 0 or 1, not None"),
        ("a.csv", "frame,label\n-1,1\n", "line 2: '-1' is no number of a frame"),
        ("a.csv", "frame,label\n1e3,1\n", "line 2: '1e3' is no number of a frame"),
        ("a.csv", "frame,label\n1,1\n1,1\n", "has frame 1 twice"),
        ("a.jsonl", '{"frame": 0, "label": 1}\n{"frame": 1, "la', "line 2, is no JSON"),
        ("a.jsonl", "[0, 1]\n", "line 1, is no JSON object"),
        ("a.jsonl", '{"frame": 1.5, "label": 1}\n', r"line 1: 1\.5 is no number of a frame"),
        ("a.jsonl", '{"frame": true, "label": 1}\n', "line 1: True is no number"),
        ("a.txt", "0 1\n", r"labels are read from \.csv"),
        ("a.npz", "no archive", "holds no scores"),
    ],
)
def test_bad_files_are_named_with_the_line(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=words):
        evaluate(tmp_path / name, write(tmp_path / "truth.csv", [1] * 30))


def test_files_that_are_no_text_or_not_there_are_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x01" * 30)
    with pytest.raises(UsageError, match="no text with labels"):
        evaluate(tmp_path / "a.csv", tmp_path / "a.csv")
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        evaluate(tmp_path / "none.csv", tmp_path / "none.csv")


def test_files_without_a_common_frame_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no frame in common"):
        evaluate(write(tmp_path / "a.csv", [1] * 5), write(tmp_path / "b.csv", [1] * 5, first=9))
