"""`cpuserve video train`: what it prints, its JSON, and the options that do not go together."""

from __future__ import annotations

import json
import os
import signal

import pytest

from cpuserve.cli import main
from cpuserve.cli.video import train as train_command
from cpuserve.settings import Settings
from cpuserve.video import frame_model
from cpuserve.video.cascade_file import Cascade
from cpuserve.video.specialised_training import CnnSize
from tests.video.made_clip import RedSquares, write_clip

pytestmark = pytest.mark.timeout(600)  # several trainings, which a busy machine makes long


def run(*words):
    with pytest.raises(SystemExit) as end:
        main(["video", "train", *map(str, words)])
    return end.value.code


@pytest.fixture
def red(monkeypatch):
    """Has a model called red that finds red squares."""
    reference = RedSquares()
    monkeypatch.setattr(train_command, "model_settings", lambda *_: Settings())
    monkeypatch.setattr(frame_model, "open_frame_model", lambda *_, **__: reference)
    monkeypatch.setattr("cpuserve.video.train.TrainingOptions.sizes", [CnnSize("tiny", 4, 8)], raising=True)
    return reference


def test_a_training_prints_what_was_chosen_and_what_is_not_promised(red, tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4", 520)
    words = ("--answers", tmp_path / "answers", "-o", tmp_path / "red")
    assert run(clip, "--reference", "red", "--query", "square", *words) == 0
    text = capsys.readouterr().out
    assert text.startswith("square: ")
    assert "the reference on every frame" in text
    assert "Nothing is promised: with confidence 95%" in text
    assert "report.html tells more" in text
    assert {"cascade.toml", "report.html", "scores.npz", "pictures.npy"} <= {
        path.name for path in (tmp_path / "red").iterdir()
    }
    scores = ("--scores", tmp_path / "red" / "scores.npz", "--answers", tmp_path / "answers")
    asked = red.asked
    budgets = ("--fn", "0.9", "--fp", "0.9", "--confidence", "0.6")
    assert run(*scores, *budgets, "-o", tmp_path / "again", "--parquet", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["directory"] == str(tmp_path / "again")
    assert found["promise"]["promised"]
    assert found["query"] == "square"
    assert (tmp_path / "again" / "scores.parquet").is_file()
    assert run(*scores, "--query", "SQUARE@0,0,0.5,1", "-o", tmp_path / "left", "--quiet") == 0
    # a run looks for the class as the model writes it
    assert Cascade.load(tmp_path / "left").parsed_query().classes == ("square",)
    assert capsys.readouterr().out == ""
    assert red.asked == asked
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "answers", "clip.mp4", "left", "red"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), "a VIDEO is missing"),
        (("VIDEO",), "--reference MODEL is missing"),
        (("VIDEO", "--reference", "red"), "--query CLASS is missing"),
        (("VIDEO", "--reference", "red", "--query", "sqare"), "no class 'sqare': did you mean square?"),
        (("VIDEO", "--reference", "red", "--query", "square@door"), "give the file that has it by --regions"),
        (
            ("VIDEO", "--reference", "red", "--query", "square", "--labels", "none.csv"),
            "none.csv cannot be read",
        ),
        (
            ("VIDEO", "--reference", "red", "--query", "square", "--specialised", "no.xml"),
            "no.xml cannot be read",
        ),
        (("VIDEO", "--reference", "red", "--query", "square", "--train-share", "0.9"), "leave some time"),
        (("--scores", "none.npz"), "none.npz cannot be read"),
        (("VIDEO", "--scores", "none.npz"), "leave out"),
        (("none.mp4", "--reference", "red", "--query", "square"), "none.mp4"),
        (("--labels", "a.csv", "--scores", "none.npz"), "leave out --labels"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(red, tmp_path, capsys, words, reason):
    clip = write_clip(tmp_path / "clip.mp4", 30)
    given = [clip if word == "VIDEO" else word for word in words]
    assert run(*given, "-o", tmp_path / "out", "--answers", tmp_path / "answers") != 0
    assert reason in capsys.readouterr().err
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_sigterm_leaves_nothing(red, tmp_path, monkeypatch):
    def ended(*_: object, **__: object) -> None:
        assert len(list(tmp_path.glob(".out.*"))) == 1
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("cpuserve.video.train.learn", ended)
    before = signal.getsignal(signal.SIGTERM)
    words = ("a.mp4", "--reference", "red", "--query", "square", "-o", tmp_path / "out")
    assert run(*words) == 143
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_real_clip_with_labels_made_by_eye(red, data_dir, expected, tmp_path, capsys):
    """Cars seen from above while the exposure jumps: detectors miss them, so the user labels them."""
    red.labels = ("vehicle",)
    facts = expected["video"]["car-detection.mp4"]
    lines = ["frame,object_name,confidence,xmin,ymin,xmax,ymax"]
    for name, runs in (("vehicle", facts["positive_runs"]), ("", facts["negative_runs"])):
        for first, last in runs:
            lines += [f"{number},{name},,,,," for number in range(first, last + 1)]
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(lines))
    clip = data_dir / "video" / "car-detection.mp4"
    words = (
        "--reference",
        "red",
        "--query",
        "vehicle",
        "--labels",
        labels,
        "-o",
        tmp_path / "cars",
        "--json",
    )
    assert run(clip, *words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["promise"] is None
    assert found["words"][0].startswith("Nothing is promised")
    assert any("frames without a label were left out" in note for note in found["notes"])
    # the stand-in for a model sees none of the cars, which is said: it is what the cascade would ask
    assert any("the reference agrees with your labels on" in note for note in found["notes"])
    assert sum(part["changes"] for part in found["counts"].values()) >= 4


def test_a_trainer_that_is_not_installed_ends_with_4_before_anything_is_read(
    red, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("cpuserve.video.cnn_learner.find_spec", lambda _name: None)
    clip = write_clip(tmp_path / "clip.mp4", 30)
    words = ("--reference", "red", "--query", "square", "-o", tmp_path / "red", "--trainer", "torch")
    assert run(clip, *words) == 4
    said = capsys.readouterr().err
    assert "--trainer torch needs PyTorch (--trainer numpy needs nothing): " in said
    assert said.endswith("pip install 'cpuserve[torch]'\n")
    assert red.asked == 0
    assert not (tmp_path / "red").exists()
