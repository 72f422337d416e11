"""`cpuserve models`: what it says of good, foreign and broken IR."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.cli import main
from cpuserve.models.card import Card

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("CPUSERVE_MODEL_REPOSITORY", str(tmp_path / "ir_models"))

    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in ("models", *words)])
        captured = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, captured.out, captured.err

    return call


def put(directory: Path, card: Card | None = None) -> Path:
    data = ops.parameter([-1, 8, 8, 3], np.uint8, name="data")
    data.output(0).set_names({"pixels"})
    model = ov.Model([ops.convert(data, np.float32)], [data], "tiny")
    if card is not None:
        card.write(model)
    directory.mkdir(parents=True)
    ov.save_model(model, directory / "any.xml")
    return directory / "any.xml"


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    root = tmp_path / "ir_models"
    put(root / "cats" / "1")
    card = Card(
        model_type="Classification",
        labels=("a b", "c"),
        licence="MIT",
        description="Cats [bold]and[/bold] not",
    )
    put(root / "cats" / "3", card)
    put(root / "foreign" / "1")
    put(root / "odd" / "1", Card(pad_value=7)).write_text("<net")
    return root


def test_each_model_is_described_by_its_latest_version(run: Run, filled: Path):
    code, out, err = run("--json")
    assert (code, err) == (0, "")
    cats, foreign, odd = json.loads(out)
    xml = filled / "cats" / "3" / "any.xml"
    assert cats == {
        "name": "cats",
        "aliases": [],
        "versions": [1, 3],
        "model_type": "Classification",
        "evidence": "",
        "decode": "",
        "inputs": [{"name": "pixels", "type": "u8", "shape": [-1, 8, 8, 3]}],
        "pictures": "BGR, 0 to 255",
        "labels": 2,
        "licence": "MIT",
        "description": "Cats [bold]and[/bold] not",
        "bytes": xml.stat().st_size + xml.with_suffix(".bin").stat().st_size,
        "path": str(xml),
        "error": None,
    }
    assert (foreign["model_type"], foreign["labels"], foreign["inputs"]) == ("", 0, cats["inputs"])
    assert "unclosed token" in odd["error"]


def test_the_table_shows_text_as_it_is(run: Run, filled: Path):
    code, out, _ = run("--model-repository", filled)
    assert code == 0
    assert "Cats [bold]and[/bold] not" in out
    assert "u8[-1,8,8,3]" in out
    assert "cannot be read: unclosed token" in out


def test_the_table_says_by_which_evidence_a_type_was_judged(run: Run, tmp_path: Path):
    put(tmp_path / "ir_models" / "cats" / "1", Card(model_type="Classification", evidence="a softmax"))
    put(tmp_path / "ir_models" / "dogs" / "1", Card(evidence="nothing says it"))
    code, out, _ = run("--model-repository", tmp_path / "ir_models")
    assert code == 0
    words = " ".join(out.replace("│", " ").split())
    assert "Classification (a softmax)" in words or "(a" in words
    assert "tensors only" in words.replace("tensors  only", "tensors only")


def test_the_table_says_how_jpeg_is_decoded(run: Run, tmp_path: Path):
    put(tmp_path / "ir_models" / "cats" / "1", Card(decode="exact"))
    put(tmp_path / "ir_models" / "dogs" / "1")
    words = " ".join(run("--model-repository", tmp_path / "ir_models")[1].replace("│", " ").split())
    assert " exact " in words
    assert "server's" in words


def test_a_model_of_another_format_is_described_as_it_is_served(run: Run, tmp_path: Path, data_dir: Path):
    file = tmp_path / "ir_models" / "vww" / "1" / "vww.tflite"
    file.parent.mkdir(parents=True)
    file.write_bytes((data_dir / "models" / "vww_96_int8.tflite").read_bytes())
    (row,) = json.loads(run("--json")[1])
    assert row["inputs"] == [{"name": "input_1_int8", "type": "i8", "shape": [-1, 96, 96, 3]}]
    assert (row["pictures"], row["error"]) == ("RGB, value - 128", None)
    assert row["bytes"] == file.stat().st_size
    file.write_bytes(b"not a model")
    assert "cannot be read" in json.loads(run("--json")[1])[0]["error"]


def test_metadata_that_cannot_be_meant_is_an_error_of_that_row(run: Run, tmp_path: Path):
    xml = put(tmp_path / "ir_models" / "cats" / "1", Card(topk=5))
    xml.write_text(xml.read_text().replace('<topk value="5" />', '<topk value="many" />'))
    (row,) = json.loads(run("--json")[1])
    assert row["error"] == "rt_info/model_info/topk is 'many'; it must be a number"


def test_an_empty_repository_points_to_the_catalogue(run: Run, tmp_path: Path):
    (tmp_path / "ir_models").mkdir()
    assert "cpuserve pull --list" in run()[1]
    assert run("--json") == (0, "[]\n", "")


def test_no_repository_is_an_error(run: Run, tmp_path: Path):
    code, out, err = run("--model-repository", tmp_path / "nowhere")
    assert (code, out) == (1, "")
    assert f"no model repository {tmp_path / 'nowhere'}: --model-repository" in err


@pytest.mark.parametrize(("words", "shown"), [(["--help"], "cpuserve models --json"), ([], "Classification")])
def test_neither_help_nor_the_list_loads_openvino(
    words: list[str], shown: str, filled: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CPUSERVE_MODEL_REPOSITORY", str(filled))
    check = (
        "import sys; from cpuserve.cli import main\n"
        "try: main(['models', *sys.argv[1:]])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "sys.exit(bool({'openvino', 'numpy', 'cv2'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", check, *words], check=True, capture_output=True, text=True)
    assert shown in run.stdout
