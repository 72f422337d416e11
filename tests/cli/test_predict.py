"""`cpuserve predict`: tables of boxes, the picture with them, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil

import cv2
import numpy as np
import openvino as ov
import pytest
from click.testing import CliRunner
from openvino import opset13 as ops

from cpuserve.cli import cli
from cpuserve.errors import UsageError
from cpuserve.models.card import Card
from cpuserve.models.repository import ModelFile
from cpuserve.protocols.warm_up import check_warm_up
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.settings import Settings


@pytest.fixture
def repository(tmp_path):
    """A detector that sees one dog wherever it looks: a box from (80, 25) to (120, 50) of 200 x 100."""
    entry = ops.parameter((1, 3, 40, 40), np.float32, name="image")
    entry.output(0).set_names({"image"})
    found = np.zeros((1, 1, 2, 7), np.float32)
    found[0, 0, 0] = 0, 1, 0.75, 0.4, 0.25, 0.6, 0.5
    nothing = ops.multiply(ops.reduce_max(entry, np.array([0, 1, 2, 3])), np.float32(0))
    boxes = ops.add(ops.constant(found), nothing)
    boxes.output(0).set_names({"boxes"})
    model = ov.Model([ops.result(boxes)], [entry])
    Card(model_type="SSD", labels=("cat", "dog")).write(model)
    folder = tmp_path / "models" / "dogs" / "1"
    folder.mkdir(parents=True)
    ov.save_model(model, folder / "model.xml")
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((100, 200, 3), 128, np.uint8))
    return tmp_path


def predict(folder, *arguments):
    options = ["--model-repository", str(folder / "models"), *map(str, arguments)]
    return CliRunner().invoke(cli, ["predict", "dogs", str(folder / "grey.png"), *options])


def test_boxes_as_a_table_and_as_json(repository):
    words = predict(repository)
    assert words.exit_code == 0, words.output
    (line,) = (line for line in words.output.splitlines() if "dog " in line)
    assert [cell.strip() for cell in line.strip("│ ").split("│")] == ["1", "dog", "0.7500", "80 25 120 50"]
    answer = json.loads(predict(repository, "--json").output)
    assert answer["detections"] == [
        {"class_id": 1, "label": "dog", "probability": 0.75, "box": [80, 25, 120, 50]}
    ]


def test_a_directory_is_its_pictures_by_name(repository):
    photos = repository / "photos"
    photos.mkdir()
    for name in ("b.png", "a.png"):
        (photos / name).write_bytes((repository / "grey.png").read_bytes())
    (photos / "notes.txt").write_text("no picture")
    said = predict(repository, photos, "--json")
    names = [json.loads(line)["image"].rpartition("/")[2] for line in said.output.splitlines()]
    assert names == ["grey.png", "a.png", "b.png"]
    (repository / "empty").mkdir()
    with pytest.raises(UsageError, match="empty has no picture"):
        CliRunner().invoke(cli, ["predict", "dogs", str(repository / "empty")], catch_exceptions=False)


def test_what_is_no_picture_is_named_and_the_others_are_answered(repository):
    photos = repository / "photos"
    photos.mkdir()
    good = (repository / "grey.png").read_bytes()
    for name in ("a.png", "z.png"):
        (photos / name).write_bytes(good)
    (photos / "empty.jpg").touch()
    (photos / "cut.png").write_bytes(good[:60])
    (photos / "text.jpeg").write_text("no picture")
    (photos / "folder.png").mkdir()
    (photos / "gone.png").symlink_to("nowhere.png")
    (photos / "self.png").symlink_to("self.png")
    os.mkfifo(photos / "pipe.png")  # nobody ever writes to it
    bad = ["cut.png", "empty.jpg", "folder.png", "gone.png", "self.png", "text.jpeg"]
    options = ["dogs", str(photos), "--model-repository", str(repository / "models")]
    said = CliRunner().invoke(cli, ["predict", *options, "--json"])
    assert said.exit_code == 1, said.output
    lines = {line["image"].rpartition("/")[2]: line for line in map(json.loads, said.stdout.splitlines())}
    assert sorted(lines) == sorted(["a.png", "z.png", *bad])
    assert all("error" in lines[name] for name in bad)
    assert [lines[name]["detections"][0]["label"] for name in ("a.png", "z.png")] == ["dog", "dog"]
    shown = CliRunner().invoke(cli, ["predict", *options])
    assert shown.exit_code == 1
    assert [line.partition(": ")[0].rpartition("/")[2] for line in shown.stderr.splitlines()] == bad


def test_a_model_file_is_run_wherever_it_lies(repository):
    file = repository / "models" / "dogs" / "1" / "model.xml"
    words = ["predict", str(file), str(repository / "grey.png"), "--json"]
    assert json.loads(CliRunner().invoke(cli, words).output)["model"] == "dogs"


def test_the_answer_is_drawn(repository):
    file = repository / "boxes.png"
    assert predict(repository, "--output", file).exit_code == 0
    drawn = cv2.imread(str(file))
    assert drawn.shape == (100, 200, 3)
    changed = np.argwhere((drawn != 128).any(axis=2) & (np.mgrid[:100, :200][0] >= 26))
    assert [*changed.min(axis=0), *changed.max(axis=0)] == [26, 80, 49, 119]


def test_what_cannot_be_drawn_is_refused(repository):
    several = predict(repository, repository / "grey.png", "--output", repository / "boxes.png")
    for refused, words in (
        (several, "not 2 into"),
        (predict(repository, "--output", repository / "boxes.jpg"), "writes a .png"),
    ):
        assert isinstance(refused.exception, UsageError)
        assert words in str(refused.exception)
    nowhere = predict(repository, "--output", repository / "no" / "boxes.png")
    assert nowhere.exit_code == 1
    assert "boxes.png cannot be written: No such file or directory" in nowhere.output


@pytest.mark.parametrize(
    ("values", "card", "rows"),
    [
        (
            np.array([[0.9, 0.1, 0.6]], np.float32),
            Card(model_type="Classification", labels=("a", "b", "c"), multilabel=True, scores="sigmoid"),
            [["0", "a", "0.9000"], ["2", "c", "0.6000"]],
        ),
        (
            np.eye(3, dtype=np.float32)[None, [1, 1, 0, 2]],
            Card(model_type="PaddleOCR-rec", labels=("h", "i"), scores="softmax"),
            [["hi", "1.0000"]],
        ),
    ],
)
def test_answers_that_are_no_plain_list_as_a_table(tmp_path, values, card, rows):
    entry = ops.parameter([1, 3, 50, 100], np.float32)
    nothing = ops.multiply(ops.reduce_max(entry, np.array([0, 1, 2, 3])), np.float32(0))
    model = ov.Model([ops.result(ops.add(ops.constant(values), nothing))], [entry])
    card.write(model)
    folder = tmp_path / "models" / "dogs" / "1"
    folder.mkdir(parents=True)
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((100, 200, 3), 128, np.uint8))
    words = predict(tmp_path)
    assert words.exit_code == 0, words.output
    lines = [line for line in words.output.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in line.strip("│").split("│")] for line in lines] == rows


def test_an_answer_is_kept_as_what_a_server_expects(repository):
    done = predict(repository, "--save-expected")
    assert done.exit_code == 0, done.output
    kept = repository / "models" / "dogs" / "1" / "warmup"
    assert sorted(file.name for file in kept.iterdir()) == ["grey.expected.json", "grey.png"]
    assert (kept / "grey.png").read_bytes() == (repository / "grey.png").read_bytes()
    said = json.loads((kept / "grey.expected.json").read_text())
    assert said["detections"][0]["label"] == "dog"
    assert "version" not in said
    file = ModelFile("dogs", 1, kept.parent / "model.xml")
    settings = Settings()
    check_warm_up(load_pipeline(openvino_core(), file, settings, 1), file, settings)
    shutil.rmtree(kept)
    kept.touch()
    assert "warmup/grey.png cannot be written" in str(predict(repository, "--save-expected").exception)


def test_a_file_name_stays_on_its_line_and_off_the_terminal(repository):
    """A newline would look like another answer, an escape would colour or clear the screen."""
    photos = repository / "photos"
    photos.mkdir()
    for name in ("a\nb.png", "c\x1b[2Jd.png", "é ü.png"):
        shutil.copy(repository / "grey.png", photos / name)
    (photos / "e\rf.png").write_text("no picture")
    options = ["--model-repository", str(repository / "models")]
    done = CliRunner().invoke(cli, ["predict", "dogs", str(photos), *options])
    assert done.exit_code == 1
    titles = [line for line in done.stdout.splitlines() if "(dogs/1)" in line]
    assert [line.removeprefix(f"{photos}/").partition("  ")[0] for line in titles] == [
        "a\\nb.png",
        "c\\x1b[2Jd.png",
        "é ü.png",
    ]
    assert "\x1b" not in done.output
    assert f"{photos}/e\\rf.png: " in done.stderr


def test_a_file_name_that_is_no_text_is_named_all_the_same(repository):
    photo = repository / os.fsdecode(b"\xff.png")
    shutil.copy(repository / "grey.png", photo)
    options = ["--model-repository", str(repository / "models")]
    for more in ([], ["--json"]):
        done = CliRunner().invoke(cli, ["predict", "dogs", str(photo), *options, *more])
        assert done.exit_code == 0, done.exception
        assert "\\xff.png" in done.stdout
    assert json.loads(done.stdout)["image"] == f"{repository}/\\xff.png"
