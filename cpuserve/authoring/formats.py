"""Recognises the format of a model file by its content, and says what is wrong with it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path
from typing import BinaryIO, NamedTuple

from cpuserve.errors import ModelLoadError, UsageError
from cpuserve.models.protobuf import fields, size_of
from cpuserve.models.version_files import PADDLE_PIR

__all__ = ["EXPORTED", "Format", "recognise"]


class Format(NamedTuple):
    """A format that can be converted.

    Attributes:
        framework: OpenVINO's word for the framework: "onnx", "tf", "tflite", "paddle", "pytorch", "ir".
        title: the format, for people.
        endings: endings of its file names, the usual one first; none for a directory.
    """

    framework: str
    title: str
    endings: tuple[str, ...] = ()


_ONNX = Format("onnx", "an ONNX model", (".onnx",))
_FROZEN = Format("tf", "a frozen TensorFlow graph", (".pb",))
_SAVED_MODEL = Format("tf", "a TensorFlow SavedModel")
_TFLITE = Format("tflite", "a TensorFlow Lite model", (".tflite",))
_PADDLE = Format("paddle", "a PaddlePaddle model", (".pdmodel",))
_TORCHSCRIPT = Format("pytorch", "a TorchScript model", (".pt", ".pth", ".ts", ".jit", ".torchscript"))
EXPORTED = Format("pytorch", "a program of torch.export", (".pt2", ".pt"))
_IR = Format("ir", "an OpenVINO IR", (".xml",))

_OTHERS = {  # files that people take for a model, and what to do
    b"version https://git-lfs": "is a Git LFS pointer, not the model: run `git lfs pull` where it came from",
    b"\x89HDF\r\n": "is HDF5, as Keras saves it: save a SavedModel with `model.export(DIRECTORY)`",
    b'{"base_code"': f"is {PADDLE_PIR}",
    b"\x80\x02": "is a Python pickle, which is not loaded: export it with torch.export or ONNX",
    b"\x1f\x8b": "is compressed with gzip: unpack it",
    b"<!DOCTYPE html": "is a web page: the download did not give the model",
    b"<!doctype html": "is a web page: the download did not give the model",
    b"<html": "is a web page: the download did not give the model",
}


def recognise(path: Path) -> Format:
    """The format of a model file, or of the directory of a SavedModel.

    Raises:
        UsageError: there is no such file or directory.
        ModelLoadError: it is not a model in a format that can be converted, it is truncated, or its name
            ends as if it were of another format.
    """
    if path.is_dir():
        if not (path / "saved_model.pb").is_file():
            raise ModelLoadError(f"{path} is a directory without a saved_model.pb; name the model's file")
        _of(path / "saved_model.pb")  # refuses one that is cut off or only a pointer
        return _SAVED_MODEL
    if not path.is_file():
        raise UsageError(f"no file or directory {path}")
    found = _of(path)
    if found is _SAVED_MODEL:
        raise ModelLoadError(f"{path.name} is part of {found.title}: name its directory, {path.parent}")
    if path.suffix.lower() not in found.endings:
        named = f"does not end in {' or '.join(found.endings)}"
        raise ModelLoadError(
            f"{path.name} {named}, but by its content it is {found.title}: rename it to "
            f"{path.stem}{found.endings[0]}"
        )
    return found


def _of(path: Path) -> Format:
    try:
        with path.open("rb") as file:
            head = file.read(64)
            if not head:
                raise ModelLoadError(f"{path.name} is empty")
            for magic, words in _OTHERS.items():
                if head.startswith(magic):
                    raise ModelLoadError(f"{path.name} {words}")
            if head[4:8] == b"TFL3":
                return _TFLITE
            if head.startswith(b"PK\x03\x04"):
                return _of_zip(path)
            if head.lstrip().startswith((b"<?xml", b"<net")):
                return _of_xml(path)
            found = _of_protobuf(path, file)
    except OSError as error:
        raise ModelLoadError(f"cannot read {path}: {error.strerror}") from error
    if found is None:
        raise ModelLoadError(
            f"{path.name} is no ONNX, TensorFlow, TensorFlow Lite, PyTorch or PaddlePaddle model and no "
            f"OpenVINO IR: it begins with {head[:8]!r}"
        )
    return found


def _of_zip(path: Path) -> Format:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        raise ModelLoadError(_truncated(path, "a PyTorch archive")) from None
    if any("/code/" in name for name in names):
        return _TORCHSCRIPT
    if any(name.endswith("serialized_exported_program.json") or "/models/" in name for name in names):
        return EXPORTED
    if "model.weights.h5" in names:
        raise ModelLoadError(
            f"{path.name} is a Keras archive: save a SavedModel with `model.export(DIRECTORY)`"
        )
    if any(name.endswith("/data.pkl") for name in names):
        raise ModelLoadError(
            f"{path.name} is a pickle of weights or of Python objects, without the graph, and is not loaded: "
            "save the model with torch.export, or name a function that builds it, as module:function"
        )
    raise ModelLoadError(f"{path.name} is a zip archive, and not one of PyTorch's: unpack it")


def _of_xml(path: Path) -> Format:
    try:
        # The file is one that OpenVINO is then given to run.
        for _, element in ET.iterparse(path, events=("start",)):  # noqa: S314
            if element.tag == "net":
                break
            raise ModelLoadError(f"{path.name} is XML but no OpenVINO IR: its root is <{element.tag}>")
        for _ in ET.iterparse(path):  # noqa: S314 - to its end: a file that was cut off has none
            pass
    except ET.ParseError as error:
        raise ModelLoadError(f"{_truncated(path, _IR.title)} ({error})") from None
    if not path.with_suffix(".bin").is_file():
        raise ModelLoadError(f"{path.name} has no weights: {path.with_suffix('.bin')} is missing beside it")
    return _IR


def _of_protobuf(path: Path, data: BinaryIO) -> Format | None:
    """By the numbers of the top-level fields, as the formats' .proto files have them."""
    numbers: set[int] = set()
    found, whole, size = None, True, size_of(data)
    for field in fields(data, 0, size):
        if not numbers and field.number == 1 and field.end > field.start:
            data.seek(field.start)  # blocks begin with a number, nodes with a name
            found = {b"\x0a": _FROZEN, b"\x08": _PADDLE}.get(data.read(1))
        numbers.add(field.number)
        whole = field.end <= size
    if found is None and {1, 7} <= numbers:
        found = _ONNX
    elif found is None and numbers == {1, 2}:
        found = _SAVED_MODEL
    if found is not None and not whole:
        raise ModelLoadError(_truncated(path, found.title))
    return found


def _truncated(path: Path, title: str) -> str:
    return (
        f"{path.name} begins as {title} but ends too early: {path.stat().st_size} bytes are there; "
        "copy or download it again"
    )
