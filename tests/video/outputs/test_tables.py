"""Rows and columns of answers in CSV and Parquet files."""

from __future__ import annotations

import csv
import io
import json
import math
import sys

import orjson
import pytest
from pyarrow import parquet

from cpuserve.errors import CpuserveError
from cpuserve.video.outputs.columns import COLUMNS, rows_of
from cpuserve.video.outputs.tables import CsvRows, write_csv, write_parquet
from tests.conftest import ROOT

HEAD = {"video": "a, b.mp4", "frame": 7, "pts": 7007, "time_s": 0.25, "model": "m", "version": "1"}
CAR = {"class_id": 2, "label": 'a "red" car', "probability": 0.5, "box": [1.5, 2.0, 3.0, 4.25]}
LINES = [
    {**HEAD, "detections": [CAR, {**CAR, "track_id": 3, "zones": ["door", "road"]}]},
    {**HEAD, "frame": 8, "detections": []},
    {**HEAD, "frame": 9, "predictions": [{"class_id": 0, "label": "tench", "probability": 0.25}]},
    {**HEAD, "frame": 10, "classes": [{"class_id": 0, "label": "road", "area": 0.75}]},
    {
        **HEAD,
        "frame": 11,
        "keypoints": [{"class_id": 0, "label": "nose", "probability": 0.5, "point": [9.0, 8.0]}],
    },
    {**HEAD, "frame": 12, "text": "AB 123", "probability": 0.125},
]


def rows():
    return [row for line in LINES for row in rows_of(line)]


def test_each_thing_has_a_row_and_a_frame_without_one_has_a_row_too():
    assert [(row["frame"], row["count"], row["index"]) for row in rows()] == [
        (7, 2, 0),
        (7, 2, 1),
        (8, 0, None),
        (9, 1, 0),
        (10, 1, 0),
        (11, 1, 0),
        (12, 1, 0),
    ]
    first, second, nothing, tench, road, nose, text = rows()
    assert [first[name] for name in ("left", "top", "right", "bottom", "score")] == [1.5, 2.0, 3.0, 4.25, 0.5]
    assert (first["track_id"], first["zones"]) == (None, None)
    assert (second["track_id"], second["zones"]) == (3, "door;road")
    assert {name for name, value in nothing.items() if value is not None} == {
        *("video", "frame", "pts", "time_s", "count")
    }
    assert (tench["label"], tench["score"], tench["left"]) == ("tench", 0.25, None)
    assert (road["area"], road["score"]) == (0.75, None)
    assert (nose["x"], nose["y"]) == (9.0, 8.0)
    assert (text["label"], text["score"]) == ("AB 123", 0.125)
    assert all([*row] == [*COLUMNS] for row in rows())


def test_csv_can_be_read_back(tmp_path):
    write_csv(LINES, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        found = [*csv.DictReader(file)]
    texts = [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows()]
    assert found == texts
    assert [file.name for file in tmp_path.iterdir()] == ["out.csv"]


ODD = "línea\n2", "=1+1", "it's\ta ;", "猫;犬", '""', "", " ", "\u2028", "\x00\x1b[31m", "\r"
NONE = float("nan"), float("inf"), -float("inf")
ODD_LINES = [
    *({**HEAD, "predictions": [{"class_id": 0, "label": label, "probability": 0.5}]} for label in ODD),
    *({**HEAD, "predictions": [{"class_id": 0, "label": "a", "probability": value}]} for value in NONE),
    *({**HEAD, "classes": [{"class_id": 0, "label": "a", "area": value}]} for value in NONE),
    *({**HEAD, "detections": [{**CAR, "box": [value, 0.0, 1.0, value]}]} for value in NONE),
    *({**HEAD, "keypoints": [{"class_id": 0, "label": "a", "point": [value, 1.0]}]} for value in NONE),
    {**HEAD, "predictions": [{"class_id": n, "label": str(n), "probability": 0.0} for n in range(5000)]},
]


def test_odd_labels_and_what_is_no_number_are_the_same_by_every_way(tmp_path):
    """In a stream, in a file that is made of the journal, and in both tables."""
    journal = [json.loads(orjson.dumps(line)) for line in ODD_LINES]
    wanted = [row for line in journal for row in rows_of(line)]
    assert [row["label"] for row in wanted[: len(ODD)]] == [*ODD]
    assert [row for line in ODD_LINES for row in rows_of(line)] == wanted
    numbers = [value for row in wanted for value in row.values() if isinstance(value, float)]
    assert all(map(math.isfinite, numbers))
    text = io.StringIO(newline="")
    stream = CsvRows(text)
    for line in ODD_LINES:
        stream.append(line)
    found = [*csv.DictReader(io.StringIO(text.getvalue(), newline=""))]
    assert [row["label"] for row in found] == [row["label"] for row in wanted]
    write_csv(journal, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes().decode() == text.getvalue()
    write_parquet(journal, tmp_path / "out.parquet", {})
    assert parquet.read_table(tmp_path / "out.parquet").to_pylist() == wanted


def test_csv_of_a_stream_is_that_of_the_file(tmp_path):
    write_csv(LINES, tmp_path / "out.csv")
    text = io.StringIO(newline="")
    stream = CsvRows(text)
    for line in LINES:
        stream.append(line)
    assert text.getvalue() == (tmp_path / "out.csv").read_text()


def test_parquet_can_be_read_back(tmp_path):
    write_parquet(LINES, tmp_path / "out.parquet", {"model": "m"})
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.to_pylist() == rows()
    assert {field.name: str(field.type) for field in table.schema} == {
        name: column.kind for name, column in COLUMNS.items()
    }
    assert table.schema.metadata[b"cpuserve.model"] == b"m"


def test_parquet_of_no_frame_has_the_columns(tmp_path):
    write_parquet([], tmp_path / "out.parquet", {})
    assert parquet.read_table(tmp_path / "out.parquet").column_names == [*COLUMNS]


def test_an_old_file_stays_when_the_new_one_cannot_be_written(tmp_path):
    old = tmp_path / "out.csv"
    old.write_text("old")

    def broken():
        yield LINES[0]
        raise OSError(28, "No space left on device")

    for write in (write_csv, lambda lines, path: write_parquet(lines, path, {})):
        with pytest.raises(CpuserveError, match=r"out.csv cannot be written: No space left"):
            write(broken(), old)
        assert old.read_text() == "old"


def test_parquet_without_its_library_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(CpuserveError, match=r"install .*cpuserve\[parquet\]"):
        write_parquet(LINES, tmp_path / "out.parquet", {})


def test_every_column_is_documented():
    page = (ROOT / "docs" / "video-infer.md").read_text()
    missing = [
        name
        for name, column in COLUMNS.items()
        if f"| `{name}` | {column.kind} | {column.meaning} |" not in page
    ]
    assert missing == []
