"""Answers of the reference are kept on disk, whatever the query, and survive a run that is killed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cpuserve.errors import UsageError
from cpuserve.video.answer_store import AnswerStore, KeptAnswer, default_answers, file_checksum
from cpuserve.video.scale import Scale

SCALE = Scale(416, 416, "BGR")
ANSWER = {"detections": [{"class_id": 2, "label": "car", "probability": 0.9, "box": [1.0, 2.0, 3.0, 4.0]}]}


def opened(
    folder: Path, *, video: str = "ab" * 32, checksum: str = "cd" * 32, scale: Scale = SCALE
) -> AnswerStore:
    return AnswerStore(folder, video, "yolox/nano", checksum, scale)


def test_answers_and_masks_are_read_again(tmp_path):
    mask = np.random.default_rng(0).integers(0, 21, (48, 64), np.uint8)
    with opened(tmp_path / "new") as store:
        store.put(3, KeptAnswer(ANSWER, 640, 352))
        store.put(0, KeptAnswer({"classes": []}, 64, 48, mask))
        assert 3 in store
        assert 1 not in store
        assert store.get(1) is None
    with opened(tmp_path / "new") as store:
        assert sorted(store) == [0, 3]
        assert len(store) == 2
        assert store.get(3) == KeptAnswer(ANSWER, 640, 352)
        kept = store.get(0)
        assert kept is not None
        assert kept.mask is not None
        assert np.array_equal(kept.mask, mask)


@pytest.mark.parametrize(
    "other", [{"video": "ac" * 32}, {"checksum": "ce" * 32}, {"scale": Scale(416, 416, "RGB")}]
)
def test_answers_of_another_video_model_or_scale_are_apart(tmp_path, other):
    with opened(tmp_path) as store:
        store.put(0, KeptAnswer(ANSWER, 640, 352))
    with opened(tmp_path, **other) as store:
        assert len(store) == 0


def test_a_line_that_was_cut_by_a_kill_is_asked_again(tmp_path):
    with opened(tmp_path) as store:
        store.put(0, KeptAnswer(ANSWER, 640, 352))
        store.put(1, KeptAnswer(ANSWER, 640, 352))
        path = store.path
    path.write_bytes(path.read_bytes()[:-20])
    with opened(tmp_path) as store:
        assert list(store) == [0]
        store.put(1, KeptAnswer(ANSWER, 640, 352))
    with opened(tmp_path) as store:
        assert list(store) == [0, 1]


@pytest.mark.parametrize("line", [b"{}", b"not JSON", b'{"frame": "x"}'])
def test_damaged_files_are_refused(tmp_path, line):
    with opened(tmp_path) as store:
        path = store.path
    path.write_bytes(line + b"\n")
    with pytest.raises(UsageError, match="are damaged: delete that file"):
        opened(tmp_path)
    path.write_bytes(b'{"frame": 0, "answer": {}, "width": 1, "height": 1, "mask": "AAAA"}\n')
    with opened(tmp_path) as store, pytest.raises(UsageError, match="are damaged"):
        store.get(0)


def test_two_trainings_do_not_write_one_file(tmp_path):
    with opened(tmp_path), pytest.raises(UsageError, match="another training labels this video"):
        opened(tmp_path)
    with opened(tmp_path) as store:
        assert len(store) == 0


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="name another directory by --answers"):
        opened(tmp_path / "file")
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        file_checksum(tmp_path / "none.mp4")


def test_answers_lie_in_the_cache_unless_told_otherwise(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_answers() == tmp_path / "cpuserve" / "video-answers"
