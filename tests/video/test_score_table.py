"""The table of scores: which frames are looked at, what they are compared with, and its files."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from cpuserve.errors import UsageError, install_command
from cpuserve.video.score_table import ScoreTable, difference_column


def made_table(length: int = 40, *, starts: tuple[int, ...] = (0, 23), **columns) -> ScoreTable:
    """A table of one clip with a keyframe every 12 frames and every second other frame disposable."""
    number = np.arange(length)
    plain = {
        "number": number,
        "time_s": number / 25,
        "packet_bytes": 100 + number,
        "key": number % 12 == 0,
        "disposable": number % 12 % 2 == 1,
        "first": np.isin(number, starts),
        "video": np.zeros(length, np.int16),
        "part": np.zeros(length, np.uint8),
        "label": number % 20 > 10,
        "reference_score": (number % 7 / 7).astype(np.float32),
        "labelled": np.ones(length, bool),
    }
    return ScoreTable(**{**plain, **columns})


def rows(mask: np.ndarray) -> list[int]:
    return np.flatnonzero(mask).tolist()


def test_of_each_block_the_first_decoded_frame_is_looked_at():
    table = made_table()
    assert rows(table.looked_at(1)) == list(range(40))
    assert rows(table.looked_at(10)) == [0, 10, 20, 23, 30]  # 23 starts a segment
    assert rows(table.looked_at(10, "nonkey")) == [0, 12, 24, 36]
    # the first of the segment is disposable, so that the one after it is its first
    assert rows(table.looked_at(5, "nonref")) == [0, 6, 10, 16, 20, 24, 26, 30, 36]


def test_anchors_are_the_last_frame_looked_at_that_is_early_enough():
    table = made_table()
    anchors = table.anchors("global:10", 5)
    assert {row: anchors[row] for row in rows(table.looked_at(5))} == {
        **{0: -1, 5: -1, 10: 0, 15: 5, 20: 10},
        **{23: -1, 25: -1, 30: -1, 35: 25},
    }
    assert (anchors[~table.looked_at(5)] == -1).all()
    assert table.anchors("average", 10)[[0, 10, 20, 23, 30]].tolist() == [-1, 0, 10, -1, 23]
    assert (table.anchors("global:reference", 1) == -1).all()
    assert table.anchors("global:10", 10, "nonkey")[[12, 24, 36]].tolist() == [0, -1, 24]


def test_anchors_do_not_reach_into_another_clip():
    twice = made_table(80, starts=(0, 40), video=np.repeat([0, 1], 40).astype(np.int16))
    twice = dataclasses.replace(twice, number=np.tile(np.arange(40), 2))
    anchors = twice.anchors("blocked:10", 10)
    assert anchors[[30, 40, 50, 60]].tolist() == [20, -1, 40, 50]


def test_columns_are_named_after_the_frames_they_hold_for():
    assert difference_column("global:10", 5) == "global:10"
    assert difference_column("global:10", 4) is None
    assert difference_column("global:10", 5, "nonref") == "global:10/nonref:5"
    assert difference_column("average", 5) == "average/all:5"
    assert difference_column("blocked:reference", 4, "nonkey") == "blocked:reference"


@pytest.mark.parametrize("ending", [".npz", ".parquet"])
def test_a_table_is_kept_in_a_file(tmp_path, ending):
    table = made_table(
        differences={"global:10": np.linspace(0, 1, 40, dtype=np.float32)},
        specialised={"small.2": np.linspace(1, 0, 40, dtype=np.float32)},
        packets=np.full(40, 0.5, np.float32),
        costs={"decode:all": 0.001},
        videos=("a.mp4",),
        frame_rate=12.5,
        query="car",
        notes=("packet sizes say nothing",),
    )
    path = tmp_path / f"scores{ending}"
    table.save(path)
    again = ScoreTable.load(path)
    for field in dataclasses.fields(ScoreTable):
        kept, read = getattr(table, field.name), getattr(again, field.name)
        if isinstance(kept, np.ndarray):
            assert kept.dtype == read.dtype, field.name
            assert np.array_equal(kept, read), field.name
        elif field.name in ("differences", "specialised"):
            assert kept.keys() == read.keys()
            assert all(np.array_equal(kept[name], read[name]) for name in kept)
        else:
            assert kept == read, field.name
    assert again.difference("global:10", 5) is not None
    assert again.difference("global:10", 3) is None
    assert again.difference("average", 5) is None


def test_files_that_are_no_table_are_refused(tmp_path):
    good = tmp_path / "good.npz"
    made_table().save(good)
    content = good.read_bytes()
    cases = {"empty": b"", "text": b"frame,label\n", "cut": content[: len(content) // 2]}
    for name, data in cases.items():
        for ending in (".npz", ".parquet"):
            path = tmp_path / f"{name}{ending}"
            path.write_bytes(data)
            with pytest.raises(UsageError, match=r"holds no scores of `cpuserve video train`"):
                ScoreTable.load(path)
    other = tmp_path / "other.npz"
    np.savez(other, frame=np.arange(3))
    with pytest.raises(UsageError, match="holds no scores"):
        ScoreTable.load(other)
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        ScoreTable.load(tmp_path / "none.npz")
    with pytest.raises(UsageError, match=r"\.npz or \.parquet"):
        made_table().save(tmp_path / "scores.csv")


def test_parquet_without_its_extra_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from pathlib import Path\n"
        "from cpuserve.video.score_table import ScoreTable\n"
        f"ScoreTable.load(Path({str(tmp_path / 'a.parquet')!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"MissingExtra: Parquet files need pyarrow: {install_command('parquet')}" in done.stderr


def test_columns_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match=r"column difference\.global:1 has shape \(3,\), not \(40,\)"):
        made_table(differences={"global:1": np.zeros(3, np.float32)})
