"""`cpuserve quantize` on real models: what is published is measured, serves in batches, keeps its words."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cpuserve.authoring.labelled_pictures import pictures_checksum
from cpuserve.cli import main
from cpuserve.models.card import Card
from cpuserve.models.quantization_record import Validation
from cpuserve.models.repository import Repository
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.request import Request
from cpuserve.settings import Settings
from tests.isa import NEEDS_BF16

pytestmark = pytest.mark.numeric

Run = Callable[..., tuple[int, str, str]]
NAMES = {"vww_96_float": "vww_96_float.tflite", "mobilenet_v1_0.25_128_frozen": ""}
LARGE = {"mug_8mp.jpg", "cat_1080p.jpg"}


@pytest.fixture(scope="module")
def repository(data_dir, tmp_path_factory) -> Path:
    root: Path = tmp_path_factory.mktemp("quantize")
    with pytest.raises(SystemExit) as end:
        mirror = ("--mirror", str(data_dir / "models"), "--quiet")
        main(["pull", *NAMES, *mirror, "--model-repository", str(root)])
    assert end.value.code == 0
    return root


@pytest.fixture(scope="module")
def photos(data_dir, tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("photos")
    for file in (data_dir / "images").iterdir():
        if file.is_file() and "mask" not in file.name and file.name not in LARGE:
            shutil.copy(file, folder)
    return folder


@pytest.fixture
def run(capsys, monkeypatch, repository) -> Run:
    monkeypatch.setenv("CPUSERVE_MODEL_REPOSITORY", str(repository))

    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in ("quantize", *words)])
        captured = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, captured.out, captured.err

    return call


@pytest.fixture
def labels(expected: Any, photos: Path, tmp_path: Path) -> Path:
    """The right answers of the model that tells people, as a CSV."""
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label"])
        for name, (_, person) in expected["vww"]["vww_96_float.tflite"].items():
            if (photos / name).is_file():
                writer.writerow([photos / name, "person" if person > 0.5 else "no person"])
    return tmp_path / "labels.csv"


@NEEDS_BF16
def test_a_published_model_is_measured_and_serves(run, repository, photos, labels):
    red = photos / "\x1b[31mred.jpg"
    red.write_text("no picture")
    (photos / "truncated.jpg").write_bytes((photos / "bee.jpeg").read_bytes()[:3000])
    code, out, err = run("vww_96_float", "--calibration", photos, "--validation", labels, "--json")
    (photos / "truncated.jpg").unlink()
    red.unlink()
    assert ("\x1b" in err, "\\x1b[31mred.jpg: the body is not a picture" in err) == (False, True)
    assert (code, "left out: " in err, "truncated.jpg: the JPEG is damaged" in err) == (0, True, True)
    report = json.loads(out)
    file = Repository(repository).find("vww_96_float_int8")
    assert json.loads((file.xml.parent / "report.json").read_text()) == report
    pictures = sorted(photos.iterdir())
    rows = len(labels.read_text().split("\n")) - 2
    assert (report["metric"], report["method"], report["validation_pictures"]) == ("top1", "ptq", rows)
    assert (report["accuracy_float"], report["accuracy"]) == (1.0, 1.0)
    assert (report["calibration_pictures"], report["calibration_sha256"]) == (
        len(pictures),
        pictures_checksum(pictures),
    )
    assert report["speed"]["speedup"] > 0
    assert [one["asked"] for one in report["float_model_by_precision"]] == ["f32", "bf16", "f16"]

    model = openvino_core().read_model(file.xml)
    record = Validation.read(model)
    assert record is not None
    assert (record.source, record.metric, record.accuracy) == ("vww_96_float/1", "top1", 1.0)
    float_file = Repository(repository).find("vww_96_float")
    assert Card.read(model) == Card.read(openvino_core().read_model(float_file.xml))
    assert (file.xml.with_suffix(".bin").stat().st_size) < float_file.xml.with_suffix(".bin").stat().st_size

    core, settings = openvino_core(), Settings(precision="f32", max_batch=8)
    served, before = (load_pipeline(core, one, settings, 1) for one in (file, float_file))
    assert served.batcher.engine.sizes == (1, 2, 4, 8)
    row = np.random.default_rng(0).random((1, 96, 96, 3), np.float32)
    (alone,), (many,) = (served.infer([np.repeat(row, n, 0)], Request()) for n in (1, 7))
    np.testing.assert_allclose(many, np.repeat(alone, 7, 0), atol=1e-5)
    for photo in pictures[:6]:
        answers = [one.predict(photo.read_bytes(), Request())["predictions"][0] for one in (served, before)]
        assert answers[0]["label"] == answers[1]["label"]
        assert answers[0]["probability"] == pytest.approx(answers[1]["probability"], abs=0.15)


def test_a_worse_model_is_not_published_and_the_float_one_kept(run, repository, photos):
    before = sorted(repository.rglob("*"))
    code, out, err = run(
        *("mobilenet_v1_0.25_128_frozen", "--calibration", photos, "--max-drop", "0"),
        *("--no-accuracy-control", "--subset-size", "6", "--quiet"),
    )
    assert (code, out) == (3, "")
    assert "mobilenet_v1_0.25_128_frozen/1 is kept as it is and nothing is published: agreement on 6" in err
    assert "compared with the float model's own classes, 6 in all" in err
    assert "--max-drop 0 does not allow that" in err
    assert sorted(repository.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--metric", "top1"], "--metric top1 needs --validation"),
        (["--metric", "map", "--validation", "LABELS"], "--metric map needs boxes; the validation pictures"),
        (["--metric", "f1", "--validation", "LABELS"], "--metric f1 is none of top1, miou, map, agreement"),
        (["--metric", "no_such:thing"], "No module named 'no_such'"),
    ],
)
def test_pictures_and_metric_must_fit(run, photos, labels, words, message):
    given = [labels if word == "LABELS" else word for word in words]
    code, _, err = run("vww_96_float", "--calibration", photos, "--subset-size", 2, *given)
    assert (code, message in err) == (2, True), err


def test_unknown_models_and_models_that_are_quantised_are_refused(run, photos):
    code, _, err = run("vww_96_flaot", "--calibration", photos)
    assert (code, "did you mean vww_96_float" in err) == (1, True)


def boxes_csv(expected: dict[str, Any], data_dir: Path, file: Path, names: list[str]) -> None:
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["file", "x1", "y1", "x2", "y2", "class"])
        for name in names:
            for found in expected["detect"]["yolox_nano_416.onnx"][name]:
                writer.writerow([data_dir / "images" / name, *found["box"], found["class"]])
