"""A version is one IR or one file of another format; what else lies there is named with what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cpuserve.models.version_files import model_in


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (("net.onnx", "net.onnx.data", "labels.txt"), "net.onnx"),
        (("net.tflite",), "net.tflite"),
        (("frozen.pb",), "frozen.pb"),
        (("net.pdmodel", "net.pdiparams", "net.pdiparams.info"), "net.pdmodel"),
        (("saved_model.pb", "keras_metadata.pb", "fingerprint.pb"), "saved_model.pb"),
        (("model.xml", "model.bin", "model.onnx"), "model.xml"),  # what was converted counts
    ],
)
def test_the_one_model_is_found(tmp_path: Path, files: tuple[str, ...], found: str):
    for name in files:
        (tmp_path / name).touch()
    assert model_in(tmp_path) == tmp_path / found


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (("net.pt",), "net.pt, a PyTorch file: `cpuserve convert`"),
        (("net.keras",), "model.export"),
        (("inference.json", "inference.pdiparams"), "PIR.*paddle2onnx"),
        (("net.pdmodel",), "no net.pdiparams beside net.pdmodel"),
        (("a.onnx", "b.onnx"), "2 files instead of one"),
        (("labels.txt",), "0 files instead of one that ends in .xml, .onnx"),
        (("model.xml",), "no model.bin"),
    ],
)
def test_what_cannot_be_served_is_named(tmp_path: Path, files: tuple[str, ...], words: str):
    for name in files:
        (tmp_path / name).touch()
    found = model_in(tmp_path)
    assert isinstance(found, str)
    assert re.search(words, found)


def test_a_model_that_lies_one_directory_deeper_is_pointed_at(tmp_path: Path):
    for name in ("net/1", ".hidden", "lost+found"):
        (tmp_path / name).mkdir(parents=True)
    found = model_in(tmp_path)
    assert isinstance(found, str)
    assert found.endswith("; directories in it are not looked into: net")
