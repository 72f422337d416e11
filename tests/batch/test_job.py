"""A job writes every row once, in order, however workers and the job itself die."""

from __future__ import annotations

import hashlib
import json
import os
import random

import orjson
import pytest

from cpuserve.batch.job import run_job
from cpuserve.batch.job_folder import JobFolder
from cpuserve.batch.manifest import BatchManifest
from cpuserve.batch.sources import BatchInput
from cpuserve.batch.work_units import VideoParts, plan_units
from cpuserve.errors import CpuserveError, UsageError
from tests.batch.fake_workers import MODEL, FakeWorkers, row_of

PICTURES = [BatchInput(f"{number:04}.jpg", is_video=False, size=number) for number in range(300)]
INPUTS = [*PICTURES[:150], BatchInput("v.mp4", is_video=True), *PICTURES[150:]]
FRAMES = 600
SETTINGS = {"format": "jsonl", "topk": None}


def opened(folder, inputs=INPUTS, settings=SETTINGS, model=MODEL, as_format="jsonl", **given):
    parts = VideoParts(FRAMES, range(0, FRAMES, 100))
    units = [*plan_units(inputs, lambda _: parts, shard_rows=100, every=1)]
    facts = {"name": model.name, "version": model.version, "checksum": model.checksum}
    return JobFolder(BatchManifest(folder, facts, settings, inputs), units, as_format, **given)


def rows_in(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    found = []
    for shard in manifest["shards"]:
        content = (folder / shard["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == shard["sha256"]
        assert content.count(b"\n") == shard["rows"]
        found += map(orjson.loads, content.splitlines())
    assert manifest["rows"] == len(found)
    return found


def wanted():
    for one in INPUTS:
        if one.is_video:
            yield from (row_of(one.uri, frame) for frame in range(FRAMES))
        else:
            yield row_of(one.uri)


WANTED = [*wanted()]


def test_rows_are_in_the_order_of_the_inputs_with_several_workers(tmp_path):
    told = []
    with opened(tmp_path) as folder:
        summary = run_job(folder, FakeWorkers(3), told.append)
    assert rows_in(tmp_path) == WANTED
    assert summary.rows == sum(told) == len(WANTED)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("manifest.json", "inputs.jsonl"),
        *(
            f"shard-{number:05}.jsonl"
            for number in range(len(json.loads((tmp_path / "manifest.json").read_text())["shards"]))
        ),
    }
    assert json.loads((tmp_path / "manifest.json").read_text())["complete"] is True


@pytest.mark.parametrize("seed", range(5))
def test_workers_that_die_at_any_row_cost_nothing(tmp_path, seed):
    chance = random.Random(seed)  # noqa: S311
    workers = FakeWorkers(3, lambda *_: chance.random() < 0.02, seed)
    with opened(tmp_path) as folder:
        summary = run_job(folder, workers)
    assert rows_in(tmp_path) == WANTED
    assert summary.workers_lost == workers.lost > 0


class Killed(BaseException):
    pass


@pytest.mark.parametrize("seed", range(4))
def test_a_job_that_is_killed_at_any_write_goes_on_without_making_rows_again(tmp_path, seed, monkeypatch):
    """Whatever was written stays; nothing is asked of the model twice."""
    chance, rounds, made = random.Random(seed), 0, []  # noqa: S311
    real = os.fsync

    def fsync(descriptor):
        real(descriptor)
        if chance.random() < 0.05:
            raise Killed

    monkeypatch.setattr(os, "fsync", fsync)
    while True:
        rounds += 1
        workers = FakeWorkers(2, seed=rounds)
        left = chance.randrange(20, 400)

        def count(rows, limit=[left]):  # noqa: B006  # one for each round
            limit[0] -= rows
            if limit[0] < 0:
                raise Killed

        try:
            with opened(tmp_path) as folder:
                run_job(folder, workers, count)
            break
        except Killed:
            made += workers.answered
    assert rounds > 2
    assert rows_in(tmp_path) == WANTED
    journalled = len(made) + len(workers.answered)
    assert journalled < 2 * len(WANTED)


def test_a_torn_last_line_is_made_again(tmp_path):
    def stop(_rows):
        if any((tmp_path / ".unfinished").glob("*.rows")):
            raise Killed

    with pytest.raises(Killed), opened(tmp_path) as folder:
        run_job(folder, FakeWorkers(1), stop)
    (journal,) = (tmp_path / ".unfinished").glob("*.rows")
    journal.write_bytes(journal.read_bytes()[:-7])
    with opened(tmp_path) as folder:
        run_job(folder, FakeWorkers(1))
    assert rows_in(tmp_path) == WANTED


def test_a_shard_that_is_gone_is_made_again_alone(tmp_path):
    with opened(tmp_path) as folder:
        run_job(folder, FakeWorkers(1))
    (tmp_path / "shard-00001.jsonl").unlink()
    (tmp_path / "shard-00003.jsonl").write_bytes(b"cut")
    workers = FakeWorkers(1)
    with opened(tmp_path) as folder:
        assert not folder.manifest.complete
        run_job(folder, workers)
    assert rows_in(tmp_path) == WANTED
    assert 0 < len(workers.answered) <= len(WANTED) / 2


def test_a_picture_that_ends_every_worker_is_an_error_and_the_others_are_answered(tmp_path):
    workers = FakeWorkers(
        2, lambda uri, place: uri in ("0100.jpg", "0101.jpg") or (uri == "v.mp4" and place == 300)
    )
    with opened(tmp_path) as folder:
        run_job(folder, workers)
    rows = rows_in(tmp_path)
    errors = [row for row in rows if "error" in row]
    assert [(row["input"], row.get("frame")) for row in errors] == [
        ("0100.jpg", None),
        ("0101.jpg", None),
        ("v.mp4", 300),
    ]
    assert "3 times with it alone: it was ended by SIGKILL" in errors[0]["error"]
    whole = [row for row in rows if "error" not in row]
    bad = {"0100.jpg", "0101.jpg"}
    assert [row for row in WANTED if row["input"] not in bad and row["input"] != "v.mp4"] == [
        row for row in whole if row["input"] != "v.mp4"
    ]
    assert json.loads((tmp_path / "manifest.json").read_text())["errors"] == 3


def test_workers_that_all_die_end_the_job(tmp_path):
    with pytest.raises(CpuserveError, match="20 workers ended without a row"), opened(tmp_path) as folder:
        run_job(folder, FakeWorkers(2, lambda *_: True))
    with opened(tmp_path) as folder:
        run_job(folder, FakeWorkers(2))
    assert [row for row in rows_in(tmp_path) if "error" not in row] == [
        row
        for row in WANTED
        if row["input"] not in {one["input"] for one in rows_in(tmp_path) if "error" in one}
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": MODEL._replace(version=2)}, "the model's version was 1 .* and is 2 now"),
        ({"model": MODEL._replace(checksum="bb" * 32)}, "the model's checksum"),
        ({"model": MODEL._replace(name="other")}, 'name was "digits"'),
        ({"settings": {**SETTINGS, "topk": 3}}, "topk was null"),
        ({"inputs": INPUTS[:-1]}, "input 300 was 0299.jpg .* and is none now"),
        ({"inputs": [*INPUTS, BatchInput("more.jpg", is_video=False)]}, "was none and is more.jpg"),
        (
            {"inputs": [BatchInput("0000.jpg", is_video=False, size=9), *INPUTS[1:]]},
            r"0000.jpg \(0 bytes.*9 bytes",
        ),
    ],
)
def test_another_job_than_that_of_the_manifest_is_refused_and_harms_nothing(tmp_path, change, words):
    with opened(tmp_path) as folder:
        run_job(folder, FakeWorkers(1))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(UsageError, match=words):
        opened(tmp_path, **change)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    with opened(tmp_path, overwrite=True, **change) as folder:
        assert folder.left()


def test_a_folder_with_other_files_is_refused_also_with_overwrite(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"no manifest\.json"):
            opened(tmp_path, overwrite=overwrite)
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"model": {}}', b'{"model": 1, "settings": 2, "shards": 3}']
)
def test_a_damaged_manifest_is_refused(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(CpuserveError, match="is no manifest of a job"):
        opened(tmp_path)


def test_two_jobs_in_one_folder_are_refused(tmp_path):
    with opened(tmp_path), pytest.raises(CpuserveError, match="another process works"):
        opened(tmp_path)
    with opened(tmp_path):
        pass


def test_parquet_has_a_row_for_each_picture_and_frame_with_what_was_found(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    with opened(tmp_path, as_format="parquet") as folder:
        run_job(folder, FakeWorkers(1, lambda uri, _: uri == "0007.jpg"))
    table = parquet.read_table(sorted(tmp_path.glob("*.parquet"))).to_pylist()
    assert [(row["input"], row["frame"]) for row in table] == [
        (row["input"], row.get("frame")) for row in WANTED
    ]
    assert table[8]["found"] == [
        {
            **dict.fromkeys(("area", "left", "top", "right", "bottom", "x", "y")),
            "class_id": 1,
            "label": "0008.jpg",
            "score": 0.5,
        }
    ]
    assert table[7]["count"] == 0
    assert "SIGKILL" in table[7]["error"]
