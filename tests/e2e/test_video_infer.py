"""`cpuserve video infer` as a user calls it: real clips and models, bad videos, and runs that are killed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from pyarrow import parquet

from cpuserve.cli import cli, main
from cpuserve.errors import CpuserveError, UnknownModel, UsageError
from cpuserve.local_model import Model
from cpuserve.models.repository import Repository
from cpuserve.settings import Settings
from cpuserve.video.decoding import frames
from cpuserve.video.frame_model import open_frame_model
from cpuserve.video.scale import Scale
from tests.interrupts import interruptible

CLIP, LONG = "street_cars.mp4", "one-by-one-person-detection.mp4"
FLAGS = {
    "mobilenet": (
        *("mobilenet_v2_1.0_224_frozen.pb", "imagenet_labels_1001.txt"),
        *("--mean_values", "127.5", "--scale_values", "127.5", "--reverse_input_channels"),
    ),
    "yolox": (
        *("yolox_nano_416.onnx", "coco_labels_80.txt"),
        *("--model_type", "YOLOX", "--resize_type", "fit_to_window", "--pad_value", "114"),
    ),
    "deeplab": ("deeplabv3_257_mv_gpu.tflite", "pascal_voc_labels_21.txt"),
}


@pytest.fixture(scope="module")
def models(data_dir, tmp_path_factory):
    root: Path = tmp_path_factory.mktemp("models")
    for name, (file, labels, *flags) in FLAGS.items():
        named = ("--name", name, "--labels", str(data_dir / "models" / labels), "--no-parity", "--quiet")
        with pytest.raises(SystemExit) as end:
            main(
                ["convert", str(data_dir / "models" / file), *named, *flags, "--model-repository", str(root)]
            )
        assert end.value.code == 0
    return root


def infer(root, *words):
    return CliRunner().invoke(cli, ["video", "infer", *map(str, words), "--model-repository", str(root)])


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def opened(models):
    """What answers frames and what answers pictures, by a model's name: compiled once."""
    with ExitStack() as ends:
        made = {}

        def get(name):
            if name not in made:
                settings = Settings(model_repository=models, precision="f32", decode="exact")
                pictures = Model(Repository(models).find(name), settings)
                made[name] = tuple(map(ends.enter_context, (open_frame_model(name, settings), pictures)))
            return made[name]

        yield get


def both(opened, name, clip, every, count):
    """The answers to frames, and those to the same frames saved as PNG."""
    model, pictures = opened(name)
    found = [*frames(clip, every=every, stop=every * (count - 1) + 1)]
    assert [frame.number for frame in found] == [every * place for place in range(count)]
    for frame in found:
        png = cv2.imencode(".png", frame.scaled(Scale(frame.width, frame.height, "BGR")))[1].tobytes()
        yield model.answer(frame.scaled(model.scale), frame.width, frame.height), pictures.predict(png)


@pytest.mark.numeric
def test_boxes_are_those_of_the_frame_saved_as_a_picture(opened, data_dir):
    boxes = 0
    for found, wanted in both(opened, "yolox", data_dir / "video" / CLIP, 300, 3):
        assert found.keys() == wanted.keys()
        sure = [row for row in wanted["detections"] if row["probability"] > 0.65]
        boxes += len(sure)
        for row in sure:
            near = [
                other
                for other in found["detections"]
                if other["class_id"] == row["class_id"]
                and np.abs(np.subtract(other["box"], row["box"])).max() < 6
                and abs(other["probability"] - row["probability"]) < 0.2
            ]
            assert near, (row, found)
    assert boxes > 1


@pytest.mark.numeric
def test_classes_are_those_of_the_frame_saved_as_a_picture(opened, data_dir):
    for found, wanted in both(opened, "mobilenet", data_dir / "video" / CLIP, 300, 3):
        scores = {row["class_id"]: row["probability"] for row in found["predictions"]}
        best = wanted["predictions"][0]
        assert scores[best["class_id"]] == pytest.approx(best["probability"], abs=0.3)  # by other scalers


@pytest.mark.numeric
def test_areas_are_those_of_the_frame_saved_as_a_picture(opened, data_dir):
    for found, wanted in both(opened, "deeplab", data_dir / "video" / LONG, 500, 3):
        areas = [{row["label"]: row["area"] for row in answer["classes"]} for answer in (found, wanted)]
        for label in areas[0] | areas[1]:
            assert areas[0].get(label, 0.0) == pytest.approx(areas[1].get(label, 0.0), abs=0.02)


@pytest.mark.numeric
@pytest.mark.parametrize("name", [*FLAGS])
def test_a_frame_of_the_inputs_size_has_exactly_the_answer_of_the_picture(opened, data_dir, tmp_path, name):
    scale = opened(name)[0].scale
    clip = tmp_path / "small.avi"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("png", rate=5, width=scale.width, height=scale.height, pix_fmt="rgb24")
        for frame in frames(data_dir / "video" / CLIP, every=300, stop=601):
            pixels = frame.scaled(Scale(scale.width, scale.height, "RGB"))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    for found, wanted in both(opened, name, clip, 1, 3):
        assert found == wanted


def test_lines_of_a_clip_go_to_standard_output_and_the_summary_aside(models, data_dir):
    clip = data_dir / "video" / CLIP
    done = infer(models, clip, "--model", "yolox", "--every", "100", "--json")
    assert done.exit_code == 0, done.output
    found = lines(done.stdout)
    assert [line["frame"] for line in found] == [*range(0, 905, 100)]
    assert [*found[0]] == ["video", "frame", "pts", "time_s", "model", "version", "detections"]
    assert found[1]["time_s"] == pytest.approx(found[1]["pts"] / 90000, abs=1e-6)
    summary = json.loads(done.stderr.splitlines()[-1])  # after any progress
    assert (summary["frames"], summary["errors"]) == (10, {})
    assert all(ms > 0 for ms in summary["cpu_ms_per_frame"].values())


def test_tables_have_a_row_a_box_and_count_all_frames(models, data_dir, tmp_path):
    clip = data_dir / "video" / "car-detection.mp4"
    given = (clip, "--model", "yolox", "--every", "50", "--quiet")
    for name in ("out.jsonl", "out.csv", "out.parquet"):
        done = infer(models, *given, "-o", tmp_path / name)
        assert (done.exit_code, done.output) == (0, "")
    boxes = {line["frame"]: len(line["detections"]) for line in lines((tmp_path / "out.jsonl").read_text())}
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert len(rows) == sum(max(1, count) for count in boxes.values())
    assert {int(row["frame"]): int(row["count"]) for row in rows} == boxes
    assert 0 in boxes.values()
    table = parquet.read_table(tmp_path / "out.parquet")
    assert [row["frame"] for row in table.to_pylist()] == [int(row["frame"]) for row in rows]
    done = infer(models, *given, "--format", "csv")
    assert done.stdout == (tmp_path / "out.csv").read_text()


def test_an_annotated_video_has_the_times_of_the_clip(models, data_dir, tmp_path):
    clip = data_dir / "video" / CLIP
    done = infer(models, clip, "--model", "yolox", "--every", "50", "-o", tmp_path / "out.mp4", "--track")
    assert done.exit_code == 0, done.output
    wanted = [frame.time_s for frame in frames(clip, every=50)]
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (640, 352)
        times = [float(frame.time or 0.0) for frame in container.decode(stream)]
    assert times == pytest.approx(wanted, abs=1e-4)


def test_bad_videos_are_told_in_the_end_and_the_others_are_done(digits, data_dir, tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("no video at all\n" * 100)
    whole = (data_dir / "video" / CLIP).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    good = data_dir / "video" / "odd_48x48_raw.avi"
    done = infer(digits, tmp_path, good, "--model", "digits", "-o", tmp_path / "out.jsonl")
    assert done.exit_code == 1
    told = [line for line in done.stderr.splitlines() if line.startswith("cpuserve: error: ")]
    assert len(told) == 3
    assert all(any(name in line for line in told) for name in ("empty.mp4", "text.mp4", "cut.mp4"))
    found = [line for line in lines((tmp_path / "out.jsonl").read_text()) if line["video"] == str(good)]
    assert [line["frame"] for line in found] == [*range(51)]


@pytest.mark.parametrize(
    ("words", "error", "why"),
    [
        (("--format", "parquet"), UsageError, "--format parquet needs a file: give -o FILE"),
        (("--resume",), UsageError, "--resume needs a file: give -o FILE"),
        (("-o", "out.csv", "--format", "mp4"), UsageError, "--format mp4 does not fit the name out.csv"),
        (("-o", "/dev/full/out.jsonl"), CpuserveError, "/dev/full/out.jsonl cannot be written: "),
        (("--zones", "nowhere.toml"), UsageError, "the file of regions nowhere.toml cannot be read"),
        (("--model", "digit"), UnknownModel, "digits"),
        (("--track", "--every", "900"), UsageError, "model digits finds no boxes, which --track numbers"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(digits, data_dir, words, error, why):
    done = infer(digits, data_dir / "video" / CLIP, "--model", "digits", *words)
    assert isinstance(done.exception, error)
    assert why in str(done.exception)


def written(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.mp4"])
def test_a_run_that_is_killed_and_resumed_equals_an_undisturbed_one(digits, data_dir, tmp_path, name):
    given = (
        "--model",
        "digits",
        "--quiet",
        "--precision",
        "f32",
        "--topk",
        "3",
        "--every",
        "5",
        "--preset",
        "off",
    )
    clips = [data_dir / "video" / CLIP]
    if name != "out.mp4":
        clips.insert(0, data_dir / "video" / "odd_48x48_raw.avi")
    whole, target = tmp_path / "whole" / name, tmp_path / name
    whole.parent.mkdir()
    assert infer(digits, *clips, *given, "-o", whole).exit_code == 0
    journal = target if name == "out.jsonl" else tmp_path / f"{name}.parts" / "frames.jsonl"
    command = [
        sys.executable,
        "-m",
        "cpuserve",
        "video",
        "infer",
        *map(str, clips),
        *given,
        "-o",
        str(target),
    ]
    command += ["--model-repository", str(digits)]
    for place, count in enumerate((1, 160)):
        process = subprocess.Popen([*command, *(["--resume"] if place else [])])
        limit = time.monotonic() + 100  # of a hang
        while process.poll() is None and written(journal) < count:
            assert time.monotonic() < limit
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert infer(digits, *clips, *given, "-o", target, "--resume").exit_code == 0
    assert target.read_bytes() == whole.read_bytes()
    assert not journal.exists() or journal == target


def test_ctrl_c_says_how_to_go_on(digits, data_dir, tmp_path):
    target = tmp_path / "out.jsonl"
    command = [
        sys.executable,
        "-m",
        "cpuserve",
        "video",
        "infer",
        str(data_dir / "video"),
        "--model",
        "digits",
    ]
    command += ["-o", str(target), "--model-repository", str(digits)]
    with interruptible():
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 100
    while process.poll() is None and written(target) < 20:
        assert time.monotonic() < limit
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "cpuserve: interrupted; the same command with --resume goes on" in said
    assert "Traceback" not in said
