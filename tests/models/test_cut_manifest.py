"""`cut.json` and the words for a part."""

from __future__ import annotations

import json

import pytest

from cpuserve.errors import ModelLoadError, UsageError
from cpuserve.models.cut_manifest import CutManifest, CutPart, CutPort

GOOD = CutManifest(
    CutPart("python", "mine.heads:scale"),
    CutPart("ir", "tail/model.xml"),
    (CutPort(("image",), "u8", (1, 4, 4, 3)),),
    (CutPort(("classes", "out"), "i64", (-1, 4)),),
    True,
    {"parity": {"on": "4 rows"}},
)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("ir", CutPart("ir")),
        ("none", CutPart("none")),
        ("mine.heads:scale", CutPart("python", "mine.heads:scale")),
        ("onnx:a/b.onnx", CutPart("onnx", "a/b.onnx")),
        ("tf:b.pb", CutPart("tf", "b.pb")),
    ],
)
def test_words(text, part):
    assert CutPart.parse(text) == part


@pytest.mark.parametrize("text", ["", "IR", "onnx:", "mine", "os:system;rm", "mine:f()", "../mine:f"])
def test_words_that_are_none(text):
    with pytest.raises(UsageError, match="cannot run a head or tail"):
        CutPart.parse(text)


def test_kept_and_read_again(tmp_path):
    GOOD.write(tmp_path)
    assert CutManifest.of(tmp_path / "model.xml") == GOOD


def test_a_whole_model_has_none(tmp_path):
    assert CutManifest.of(tmp_path / "model.xml") is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"head": {"run": "ir", "what": "../../other/1/model.xml"}}, "damaged"),
        ({"head": {"run": "onnx", "what": "/etc/passwd"}}, "damaged"),
        ({"head": {"run": "python", "what": "os.system"}}, "damaged"),
        ({"tail": {"run": "shell", "what": "ls"}}, "damaged at 'shell'"),
        ({"inputs": [{"names": ["a"], "type": "u7", "shape": [1]}]}, "damaged at type 'u7'"),
        ({"outputs": None}, "damaged"),
    ],
)
def test_damaged_files(tmp_path, change, why):
    GOOD.write(tmp_path)
    file = tmp_path / "cut.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ModelLoadError, match=rf"cut\.json is {why}.*cut the model again"):
        CutManifest.of(tmp_path / "model.xml")


def test_a_file_that_is_no_json(tmp_path):
    (tmp_path / "cut.json").write_text("{")
    with pytest.raises(ModelLoadError, match=r"cut\.json cannot be read"):
        CutManifest.of(tmp_path / "model.xml")
