"""`cpuserve batch` as a user calls it: the server's answers, bad pictures, and processes that are killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import orjson
import psutil
import pytest
from click.testing import CliRunner

from cpuserve.cli import cli, main
from cpuserve.errors import UsageError
from cpuserve.local_model import load
from cpuserve.video.frame_model import open_frame_model
from tests.conftest import ROOT
from tests.interrupts import interruptible
from tests.made_videos import make_video

PICTURES = 150
SHARD = 64
F32 = ("--model-repository", str(ROOT / "ir_models"), "--precision", "f32")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Pictures, of which two are bad, a video, and one that is cut."""
    folder: Path = tmp_path_factory.mktemp("archive")
    random = np.random.default_rng(7)
    for number in range(PICTURES):
        picture = random.integers(0, 255, (96 + number % 7, 128, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number:04}.jpg"), cv2.blur(picture, (9, 9)))
    (folder / "0033.jpg").write_bytes(b"no picture")
    (folder / "0077.jpg").write_bytes((folder / "0076.jpg").read_bytes()[:300])
    make_video(folder / "v.mp4", frames=700)
    content = make_video(folder / "w.mkv", frames=300).read_bytes()
    (folder / "w.mkv").write_bytes(content[: len(content) * 2 // 3])
    return folder


def words(archive, output, *more):
    flags = ("--shard-rows", str(SHARD), *F32, *map(str, more))
    return ["batch", str(archive), "--model", "digits", "-o", str(output), *flags]


def rows_in(output):
    manifest = json.loads((output / "manifest.json").read_text())
    return [
        orjson.loads(line)
        for shard in manifest["shards"]
        for line in (output / shard["file"]).read_bytes().splitlines()
    ]


def content_of(output):
    return {path.name: path.read_bytes() for path in output.iterdir() if path.name != ".unfinished"}


@pytest.fixture(scope="module")
def undisturbed(archive, tmp_path_factory):
    """The files of a run without faults, and its summary."""
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    ended = CliRunner().invoke(cli, [*words(archive, output), "--json", "--quiet"], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return content_of(output), json.loads(ended.output), rows_in(output)


def test_rows_are_the_answers_of_the_model_in_the_order_of_names(archive, undisturbed):
    _, summary, rows = undisturbed
    pictures = [row for row in rows if "frame" not in row]
    assert [Path(row["input"]).name for row in pictures] == [f"{number:04}.jpg" for number in range(PICTURES)]
    with load("digits", model_repository=ROOT / "ir_models", precision="f32") as model:
        for row in pictures[::25]:
            assert row == {"input": row["input"], **model.predict(row["input"])}
    assert [number for number, row in enumerate(pictures) if "error" in row] == [33, 77]
    assert "not a picture" in pictures[33]["error"]
    frames = [row["frame"] for row in rows if row["input"].endswith("v.mp4")]
    assert frames == [*range(700)]
    *whole, cut = [row for row in rows if row["input"].endswith("w.mkv")]
    assert [row["frame"] for row in whole] == [*range(len(whole))]
    assert len(whole) < 300
    assert "error" in cut
    assert summary["errors"] == 3
    assert summary["rows"] == summary["rows_now"] == len(rows)
    assert summary["complete"]


def run(command, **given):
    return subprocess.Popen(
        [sys.executable, "-m", "cpuserve", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **given
    )


def written(output):
    """How many rows are on the disk; for a moment a shard and its journal both are."""
    rows: dict[str, int] = {}
    for path in [*output.glob(".unfinished/*.rows"), *output.glob("shard-*")]:
        with suppress(FileNotFoundError):
            lines = path.read_bytes().splitlines(keepends=True)
            count = sum(line.endswith(b"\n") and b'"index":null' not in line for line in lines)
            rows[path.stem] = max(rows.get(path.stem, 0), count)
    return sum(rows.values())


def wait_for_rows(output, process, rows):
    while written(output) < rows:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def seat_processes(process):
    found = psutil.Process(process.pid).children(recursive=True)
    return [one for one in found if "cpuserve.video.seat_process" in " ".join(one.cmdline())]


def test_a_killed_worker_changes_nothing(archive, undisturbed, tmp_path):
    process = run(words(archive, tmp_path / "out", "--json"))
    for rows in (5, 120):
        wait_for_rows(tmp_path / "out", process, rows)
        for worker in seat_processes(process):
            worker.kill()
    said, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    assert json.loads(said)["workers_lost"] >= 1
    assert content_of(tmp_path / "out") == undisturbed[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_ended_job_leaves_no_process_and_goes_on_by_row(archive, undisturbed, tmp_path, number):
    output = tmp_path / "out"
    with interruptible():
        process = run(words(archive, output))
    wait_for_rows(output, process, 100)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130}.get(number, -number)
    if number != signal.SIGKILL:
        assert "the same command goes on" in errors.decode()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive
    before = written(output)
    ended = CliRunner().invoke(cli, [*words(archive, output, "--resume"), "--json", "--quiet"])
    assert ended.exit_code == 0, ended.output
    summary = json.loads(ended.output)
    assert summary["rows_before"] == before >= 100
    assert summary["rows_now"] == summary["rows"] - summary["rows_before"]
    assert content_of(output) == undisturbed[0]


def test_a_job_that_is_done_is_not_done_again(archive, undisturbed, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    for name, content in undisturbed[0].items():
        (output / name).write_bytes(content)
    ended = CliRunner().invoke(cli, words(archive, output))
    assert ended.exit_code == 0, ended.output
    assert "all were there already" in ended.output
    assert content_of(output) == undisturbed[0]


def refused(*command):
    with pytest.raises(UsageError) as refusal:
        CliRunner().invoke(cli, [*map(str, command)], catch_exceptions=False)
    return str(refusal.value)


def test_another_job_in_the_folder_is_refused(archive, undisturbed, tmp_path):
    output, models = tmp_path / "out", tmp_path / "models"
    output.mkdir()
    for name, content in undisturbed[0].items():
        (output / name).write_bytes(content)
    shutil.copytree(ROOT / "ir_models", models)
    shutil.copytree(models / "digits" / "1", models / "digits" / "2")
    command = words(archive, output)
    assert "version was 1" in refused(*command, "--model-repository", models)
    assert "precision was" in refused(*command, "--precision", "auto")
    assert "input 1 was" in refused("batch", archive / "0000.jpg", *command[2:])
    assert "--resume: there is no job" in refused(*words(archive, tmp_path / "new"), "--resume")
    assert content_of(output) == undisturbed[0]


def test_wrong_words_end_with_code_2_and_missing_models_with_1(tmp_path, archive, capsys):
    for command, code, said in (
        (
            ["batch", "nowhere", "--model", "digits", "-o", str(tmp_path / "a"), *F32],
            2,
            "there is no file nowhere",
        ),
        (["batch", str(archive), "--model", "none_such", "-o", str(tmp_path / "b"), *F32], 1, "none_such"),
    ):
        with pytest.raises(SystemExit) as end:
            main(command)
        assert end.value.code == code
        assert said in capsys.readouterr().err


def test_frames_are_those_of_video_infer(archive, undisturbed):
    _, _, rows = undisturbed
    from cpuserve.settings import Settings
    from cpuserve.video.decoding import frames

    settings = Settings(model_repository=ROOT / "ir_models", precision="f32")
    by_frame = {row["frame"]: row for row in rows if row["input"].endswith("v.mp4")}
    with open_frame_model("digits", settings) as model:
        for frame in frames(archive / "v.mp4", every=175):
            answer = model.answer(frame.scaled(model.scale), frame.width, frame.height)
            assert {name: by_frame[frame.number][name] for name in answer} == answer


def test_a_list_in_a_folder_that_is_not_writable_says_so(archive, tmp_path):
    if os.geteuid() == 0:
        place = Path("/proc/nowhere")
    else:
        place = tmp_path / "locked" / "out"
        (tmp_path / "locked").mkdir(mode=0o500)
    ended = CliRunner().invoke(cli, words(archive / "0000.jpg", place))
    assert ended.exit_code == 1
    assert "cannot be written" in str(ended.exception)


def test_files_that_are_no_pictures_or_have_names_that_are_no_text_are_rows(tmp_path):
    photos, output = tmp_path / "in", tmp_path / "out"
    photos.mkdir()
    good = (ROOT / "docs" / "seven.png").read_bytes()
    bad = {"cut.png": good[:60], "empty.png": b"", "text.jpg": b"no picture"}
    odd = {os.fsdecode(b"\xff.png"): good, os.fsdecode(b"\xfe.png"): b"no picture", "new\nline.png": good}
    for name, content in {**bad, **odd}.items():
        (photos / name).write_bytes(content)
    (photos / "gone.png").symlink_to("nowhere")
    (photos / "folder.png").mkdir()
    make_video(photos / os.fsdecode(b"\xff.mp4"), frames=3)
    for _ in range(2):  # the second time it finds the job as it is
        ended = CliRunner().invoke(cli, [*words(photos, output), "--quiet"], catch_exceptions=False)
        assert ended.exit_code == 0, ended.output
    rows = [(row["input"].rpartition("/")[2], "error" in row) for row in rows_in(output)]
    wrong = ["cut.png", "empty.png", "gone.png", "text.jpg", "\\xfe.png"]
    right = ["new\nline.png", "\\xff.png", *["\\xff.mp4"] * 3]
    assert sorted(rows) == sorted([(name, True) for name in wrong] + [(name, False) for name in right])
