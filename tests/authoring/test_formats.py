"""A file is known by its content, and a wrong one is named with what to do about it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from cpuserve.authoring.formats import recognise
from cpuserve.errors import ModelLoadError, UsageError
from tests.conftest import ROOT

PADDLE = Path(__file__).with_name("paddle")
MODELS = {
    "FastestDet.onnx": "onnx",
    "nanodet_m_416.onnx": "onnx",
    "yolox_nano_416.onnx": "onnx",
    "mobilenet_v1_0.25_128_frozen.pb": "tf",
    "deeplabv3_mnv2_pascal_513_frozen.pb": "tf",
    "vww_96_int8.tflite": "tflite",
    "rejected/mobilenet_v1_0.25_128_quantized_graph.pb": "tf",
    "rejected/mobilenet_v2_quant_msft_qlinear.onnx": "onnx",
}


@pytest.mark.parametrize(("file", "framework"), MODELS.items())
def test_real_models_are_known_by_their_content(data_dir: Path, file: str, framework: str):
    assert recognise(data_dir / "models" / file).framework == framework


def test_ir_and_paddle_are_known():
    assert recognise(ROOT / "ir_models" / "digits" / "1" / "model.xml").framework == "ir"
    assert recognise(PADDLE / "tiny.pdmodel").framework == "paddle"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize(
    ("file", "title"),
    [
        ("FastestDet.onnx", "an ONNX model"),
        ("mobilenet_v1_0.25_128_frozen.pb", "a frozen TensorFlow graph"),
    ],
)
def test_a_truncated_file_is_named_with_its_size(
    data_dir: Path, tmp_path: Path, file: str, title: str, share: float
):
    whole = (data_dir / "models" / file).read_bytes()
    cut = tmp_path / file
    cut.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelLoadError, match=rf"{file} begins as {title} but ends too early: \d+ bytes"):
        recognise(cut)


def test_a_truncated_ir_and_one_without_weights_are_named(tmp_path: Path):
    whole = (ROOT / "ir_models" / "digits" / "1" / "model.xml").read_bytes()
    cut = tmp_path / "model.xml"
    cut.write_bytes(whole[:2000])
    with pytest.raises(ModelLoadError, match=r"begins as an OpenVINO IR but ends too early: 2000 bytes"):
        recognise(cut)
    cut.write_bytes(whole)
    with pytest.raises(ModelLoadError, match=r"model.bin is missing beside it"):
        recognise(cut)


@pytest.mark.parametrize(
    ("source", "ending", "words"),
    [
        ("FastestDet.onnx", ".pb", r"by its content it is an ONNX model: rename it to m\.onnx"),
        ("vww_96_int8.tflite", ".onnx", r"it is a TensorFlow Lite model: rename it to m\.tflite"),
        ("mobilenet_v1_0.25_128_frozen.pb", "", r"it is a frozen TensorFlow graph: rename it to m\.pb"),
    ],
)
def test_a_wrong_extension_is_named_with_the_right_one(
    data_dir: Path, tmp_path: Path, source: str, ending: str, words: str
):
    wrong = tmp_path / f"m{ending}"
    wrong.write_bytes((data_dir / "models" / source).read_bytes())
    with pytest.raises(ModelLoadError, match=words):
        recognise(wrong)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
            "Git LFS pointer.*git lfs pull",
        ),
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>404</html>", "is a web page"),
        (b"\x89HDF\r\n\x1a\n", r"Keras saves it: .*model\.export"),
        (b"\x80\x02}q\x00.", "Python pickle, which is not loaded"),
        (b"\x1f\x8b\x08\x00", "gzip: unpack it"),
        (b"PK\x03\x04half", "begins as a PyTorch archive but ends too early"),
        (b"<?xml version='1.0'?><svg></svg>", "no OpenVINO IR: its root is <svg>"),
        (b"\nplain text\n", "is no ONNX, .* it begins with"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "is no ONNX"),
    ],
)
def test_what_is_no_model_says_what_it_is(tmp_path: Path, content: bytes, words: str):
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    with pytest.raises(ModelLoadError, match=rf"model\.onnx .*{words}|model\.onnx {words}"):
        recognise(file)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("m/data.pkl", "without the graph.*module:function"),
        ("model.weights.h5", r"Keras archive.*model\.export"),
        ("readme.txt", "zip archive"),
    ],
)
def test_archives_without_a_graph_are_refused(tmp_path: Path, entry: str, words: str):
    file = tmp_path / "m.pt"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(entry, "x")
    with pytest.raises(ModelLoadError, match=words):
        recognise(file)


def test_directories_are_saved_models_or_refused(data_dir: Path, tmp_path: Path):
    with pytest.raises(ModelLoadError, match=r"without a saved_model\.pb"):
        recognise(tmp_path)
    with pytest.raises(UsageError, match="no file or directory"):
        recognise(tmp_path / "nothing")
    graph = tmp_path / "saved_model.pb"
    graph.write_bytes(b"\x08\x01\x12\x04\x0a\x02\x12\x00")
    assert recognise(tmp_path).title == "a TensorFlow SavedModel"
    with pytest.raises(ModelLoadError, match=rf"name its directory, {tmp_path}"):
        recognise(graph)
    graph.write_bytes(b"\x08\x01\x12\x7f\x0a\x02\x12\x00")
    with pytest.raises(ModelLoadError, match="SavedModel but ends too early"):
        recognise(tmp_path)
