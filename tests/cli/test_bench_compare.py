"""`cpuserve bench compare`: sources, table, result file, and words that cannot be meant."""

import json

import pytest

from cpuserve.cli import main
from tests.conftest import ROOT

QUICK = ("--rounds", "3", "--window-seconds", "0.05")


@pytest.fixture
def compare(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)

    def call(*words):
        try:
            main(["bench", "compare", *words])
        except SystemExit as end:
            return end.code, *capsys.readouterr()
        raise AssertionError("click ends the process")

    return call


def test_a_model_of_the_repository(compare, tmp_path):
    out = tmp_path / "o.json"
    code, text, _ = compare("digits", "--with", "onnxruntime", *QUICK, "--out", str(out))
    assert code == 0
    assert "the measure" in text
    assert "not measured: onnxruntime: takes ONNX files; model.xml is an OpenVINO IR" in text
    found = json.loads(out.read_text())
    assert [row["framework"] for row in found["frameworks"]] == ["openvino", "onnxruntime"]
    assert found["frameworks"][0]["ms_per_image"] > 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("digits", "--with", "mxnet"), 2, "--with mxnet: the frameworks are onnxruntime"),
        (("nothing.onnx",), 1, "nothing.onnx"),
        (("digits", "--batch", "0"), 2, "--batch"),
        (("digits", "--input", "wrong[1,2]"), 2, "--input wrong"),
        (("docs/seven.png",), 1, "seven.png"),
    ],
)
def test_words_that_cannot_be_meant(compare, words, code, said):
    ended, _, err = compare(*words)
    assert ended == code
    assert said in err
