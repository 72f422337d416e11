"""Every real model converts with the flags its makers say, and answers over HTTP as it is expected to."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cpuserve.cli import main
from cpuserve.serving.graph import with_batch
from cpuserve.serving.openvino_core import openvino_core
from tests.conftest import ROOT
from tests.servers import Server, serving

RGB = ("--reverse_input_channels",)
AROUND_ZERO = ("--mean_values", "127.5", "--scale_values", "127.5")
CLASSIFIERS = {
    "mobilenet_v1_0.25_128_frozen.pb": (*RGB, *AROUND_ZERO),
    "mobilenet_v1_0.25_128_quant.tflite": RGB,
    "mobilenet_v2_1.0_224_quant.tflite": RGB,
    "mobilenet_v2_1.0_224_frozen.pb": (*RGB, "--mean-values", "127.5", "--scale-values", "127.5,127.5,127.5"),
}
SEGMENTERS = {
    "deeplabv3_257_mv_gpu.tflite": (*RGB, *AROUND_ZERO),
    "deeplabv3_mnv2_dm05_257_frozen.pb": RGB,
    "deeplabv3_mnv2_pascal_quant.tflite": RGB,
    "deeplabv3_mnv2_pascal_513_frozen.pb": RGB,
}
PERSONS = {
    "vww_96_float.tflite": (*RGB, "--scale_values", "255"),
    "vww_96_int8.tflite": (*RGB, "--mean_values", "128"),
}
DETECTORS = {
    "FastestDet.onnx": ("--scale_values", "255"),
    "nanodet_m_416.onnx": ("--mean_values", "103.53,116.28,123.675", "--scale_values", "57.375,57.12,58.395"),
    "yolox_nano_416.onnx": ("--resize_type", "fit_to_window", "--pad_value", "114", "--model_type", "YOLOX"),
}


def name_of(file: str) -> str:
    return file.partition(".pb")[0].partition(".tflite")[0].partition(".onnx")[0]


def convert(data_dir: Path, root: Path, file: str, *flags: str) -> dict[str, Any]:
    words = ["convert", str(data_dir / "models" / file), "--name", name_of(file), *flags]
    main_ended = main_code([*words, "--no-parity", "--quiet", "--model-repository", str(root)])
    assert main_ended == 0
    report: dict[str, Any] = json.loads((root / name_of(file) / "1" / "report.json").read_text())
    return report


def main_code(words: list[str]) -> Any:
    with pytest.raises(SystemExit) as end:
        main(words)
    return end.value.code


@pytest.fixture(scope="module")
def converted(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All models that answer with classes or areas, converted into one repository."""
    root = tmp_path_factory.mktemp("converted") / "ir_models"
    labels = data_dir / "models"
    for file, flags in CLASSIFIERS.items():
        more = ("--labels", str(labels / "imagenet_labels_1001.txt"), "--model_type", "Classification")
        convert(data_dir, root, file, *flags, *more)
    for file, flags in SEGMENTERS.items():
        more = ("--labels", str(labels / "pascal_voc_labels_21.txt"), "--model_type", "Segmentation")
        convert(data_dir, root, file, *flags, *more)
    for file, flags in PERSONS.items():
        convert(data_dir, root, file, *flags, "--labels", "no person,person")
    convert(data_dir, root, "resnet8_cifar10.tflite", *RGB, "--labels", str(labels / "cifar10_labels.txt"))
    return root


@pytest.fixture(scope="module")
def server(converted: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server of all of them."""
    log = tmp_path_factory.mktemp("log") / "log"
    flags = ("--decode", "exact", "--precision", "f32", "--workers", "1", "--max-batch", "1")
    with serving(log, "--model-repository", str(converted), *flags) as running:
        yield running


@pytest.mark.numeric
@pytest.mark.parametrize("file", CLASSIFIERS)
def test_classifiers_answer_as_expected(server: Server, data_dir: Path, expected: dict[str, Any], file: str):
    for photo, best in expected["classify"][file].items():
        picture = (data_dir / "images" / photo).read_bytes()
        rows = server.post(f"/predictions/{name_of(file)}?topk=1001", picture).json()["predictions"]
        found = {row["class_id"]: row for row in rows}
        for class_id, label, probability in best:
            assert found[class_id]["label"] == label
            assert found[class_id]["probability"] == pytest.approx(probability, abs=0.02), photo


@pytest.mark.numeric
@pytest.mark.parametrize("file", SEGMENTERS)
def test_segmenters_answer_as_expected(server: Server, data_dir: Path, expected: dict[str, Any], file: str):
    for photo, areas in expected["segment"][file].items():
        if not isinstance(areas, dict) or not (data_dir / "images" / photo).is_file():
            continue
        picture = (data_dir / "images" / photo).read_bytes()
        rows = server.post(f"/predictions/{name_of(file)}", picture).json()["classes"]
        found = {row["label"]: row["area"] for row in rows}
        for label in {*areas, *found}:
            assert found.get(label, 0) == pytest.approx(areas.get(label, 0), abs=0.01), (photo, label)


@pytest.mark.numeric
@pytest.mark.parametrize("file", PERSONS)
def test_visual_wake_words_answer_as_expected(
    server: Server, data_dir: Path, expected: dict[str, Any], file: str
):
    # Without VNNI a CPU adds int8 products in 16 bits, which saturate; the answers are of one that has it.
    vnni = "vnni" in Path("/proc/cpuinfo").read_text()
    near = 0.02 if vnni or "int8" not in file else 0.06
    for photo, (_, person) in expected["vww"][file].items():
        probability = (person + 128) / 256 if "int8" in file else person
        picture = (data_dir / "images" / photo).read_bytes()
        rows = server.post(f"/predictions/{name_of(file)}", picture).json()["predictions"]
        found = {row["label"]: row["probability"] for row in rows}
        assert found["person"] == pytest.approx(probability, abs=near), photo


@pytest.mark.numeric
def test_cifar_answers_as_expected(server: Server, data_dir: Path, expected: dict[str, Any]):
    for photo, (label, probability) in expected["cifar"].items():
        picture = (data_dir / "images" / photo).read_bytes()
        best = server.post("/predictions/resnet8_cifar10", picture).json()["predictions"][0]
        assert best["label"] == label, photo
        assert best["probability"] == pytest.approx(probability, abs=0.02), photo


@pytest.mark.parametrize("file", DETECTORS)
def test_detectors_convert(data_dir: Path, tmp_path: Path, file: str):
    labels = str(data_dir / "models" / "coco_labels_80.txt")
    report = convert(data_dir, tmp_path, file, *DETECTORS[file], "--labels", labels)
    model = openvino_core().read_model(tmp_path / name_of(file) / "1" / "model.xml")
    assert len(model.outputs) == len(report["outputs"]) == (6 if "nanodet" in file else 1)
    assert report["complexity"]["multiply_adds"] > 1e8
    batched = with_batch(model, 2)
    if "FastestDet" in file:  # its channel shuffle has the batch multiplied into another side
        assert batched is None
    else:
        assert batched is not None
        assert all(port.shape[0] == 2 for port in batched.outputs)


def test_the_page_shows_the_report(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Numbers apart that are of a CPU: what was fused, which layouts, and the last digits."""
    page = (ROOT / "docs" / "convert.md").read_text()
    command = page.split("```sh\n")[1].split("\ncpuserve serve")[0].replace("\\\n", " ")
    wanted = page.split("<!-- report -->\n```\n")[1].split("\n```")[0].splitlines()
    for name in ("FastestDet.onnx", "coco_labels_80.txt"):
        (tmp_path / name).symlink_to(data_dir / "models" / name)
    (tmp_path / "photos").mkdir()
    shutil.copy(data_dir / "images" / "zebra.jpeg", tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    assert main_code(shlex.split(command)[1:]) == 0
    found = capsys.readouterr().out.splitlines()
    assert found[0] == wanted[0]
    tables = [
        rows[: next(place for place, row in enumerate(rows) if row[0] == "└")] for rows in (wanted, found)
    ]
    facts = [[re.sub(r"\s+", " ", row).strip("│ ") for row in rows if "│" in row] for rows in tables]
    titles = [[row.split("│")[0].strip() for row in rows] for rows in facts]
    titles = [[title for title in rows if title != "bf16"] for rows in titles]  # a CPU may not have it
    assert titles[0] == titles[1]
    same = [row for row in facts[0] if row.split(" │")[0] in ("source", "inputs", "outputs", "parameters")]
    assert len(same) == 4
    assert set(same) <= set(facts[1])
    for rows in (wanted, found):
        assert any(re.fullmatch(r"┃ picture +┃ answer +┃", row) for row in rows)
        assert any(re.match(r"│ \S+ +│ \w+.* 0\.\d{3} at \d+ \d+ \d+ \d+", row) for row in rows)
    assert [line.split(" on ")[0] for line in wanted if line.startswith("against onnxruntime")] == [
        line.split(" on ")[0] for line in found if line.startswith("against onnxruntime")
    ]


def test_a_refused_model_leaves_the_repository_as_it_was(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for file in sorted((data_dir / "models" / "rejected").iterdir()):
        words = ["convert", str(file), "--name", "refused", "--model-repository", str(tmp_path / "ir_models")]
        assert main_code(words) == 1
        assert f"cannot import {file.name}: " in capsys.readouterr().err
    assert not (tmp_path / "ir_models").exists()


def test_a_failure_after_writing_leaves_the_repository_as_it_was(
    data_dir: Path, tmp_path: Path, converted: Path, monkeypatch: pytest.MonkeyPatch
):
    root = tmp_path / "ir_models"
    shutil.copytree(converted / "resnet8_cifar10", root / "resnet8_cifar10")

    def broken(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cpuserve.authoring.convert.compute_in_child", broken)
    file = str(data_dir / "models" / "resnet8_cifar10.tflite")
    words = ["convert", file, "--name", "resnet8_cifar10", "--model-repository", str(root)]
    assert main_code(words) != 0
    assert [path.name for path in root.iterdir()] == ["resnet8_cifar10"]
    assert [path.name for path in (root / "resnet8_cifar10").iterdir()] == ["1"]
