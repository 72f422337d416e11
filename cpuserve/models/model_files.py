"""Finds the files that make up a model: weights beside it, ONNX's external data, parts of a cut model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from cpuserve.models.protobuf import ProtobufField, fields, size_of

__all__ = ["EXPORTER_FILE", "SAVED_MODEL", "Signature", "files_of", "signature_of"]

Signature = tuple[tuple[int, int, int], ...]
"""Inode, size and time of change of each file, in the order of `files_of`; zeros for one that is missing."""

SAVED_MODEL = "saved_model.pb"
"""The graph of a TensorFlow SavedModel; OpenVINO is given the directory it lies in."""

EXPORTER_FILE = "metadata.yaml"
"""What Ultralytics writes beside a model."""

_CUT = "cut.json"
_STEPS = "steps.json"
_MISSING = (0, 0, 0)

# The path from ONNX's ModelProto to its tensors by field number, as onnx.proto has them.
_MODEL = {7: "graph", 25: "function"}
_GRAPH = {1: "node", 5: "tensor", 15: "sparse"}
_NODE = {5: "attribute"}
_ATTRIBUTE = {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"}
_SPARSE = {1: "tensor", 2: "tensor"}
_FUNCTION = {7: "node"}
_INSIDE = {
    "model": _MODEL,
    "graph": _GRAPH,
    "node": _NODE,
    "attribute": _ATTRIBUTE,
    "sparse": _SPARSE,
    "function": _FUNCTION,
    "tensor": {13: "external"},
}
_KEY, _VALUE = 1, 2  # of an entry of a tensor's external data
_DEEPEST = 64  # graphs inside graphs


def files_of(model: Path) -> list[Path]:
    """The files that make up a model, its own first, each once, sorted by path.

    A file that the model names and that is missing is among them, one outside of its directory is not: that
    one is never read. Nothing of the model is checked here.

    Args:
        model: an IR's XML, or a file of another format that OpenVINO reads.
    """
    found = {*_belonging(model)}
    folder = model.parent
    if (folder / _STEPS).is_file():
        found.add(folder / _STEPS)
    if (folder / _CUT).is_file():
        found.add(folder / _CUT)
        for what in _parts(folder / _CUT):
            found |= {*_belonging(folder / what)}
    return [model, *sorted(found - {model})]


def signature_of(files: list[Path]) -> Signature:
    """Sizes, times and inode numbers of files, which differ once a file is replaced or changed."""
    found = []
    for path in files:
        try:
            status = path.stat()
        except OSError:
            found.append(_MISSING)
        else:
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


def _belonging(file: Path) -> Iterator[Path]:
    """A file of one graph and the files that hold its weights."""
    yield file
    if file.suffix == ".xml":
        yield file.with_suffix(".bin")
    elif (file.parent / EXPORTER_FILE).is_file():
        yield file.parent / EXPORTER_FILE
    if file.suffix == ".pdmodel":
        yield file.with_suffix(".pdiparams")
    elif file.name == SAVED_MODEL:
        for folder in ("variables", "assets"):
            yield from (path for path in (file.parent / folder).rglob("*") if path.is_file())
    elif file.suffix == ".onnx":
        yield from (file.parent / name for name in _external(file))


def _parts(file: Path) -> Iterator[str]:
    """The files that a ``cut.json`` names as head and tail; a damaged one is reported by the load."""
    try:
        document = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return
    for place in ("head", "tail"):
        part: Any = document.get(place) if isinstance(document, Mapping) else None
        what = part.get("what") if isinstance(part, Mapping) else None
        if isinstance(what, str) and ":" not in what and _is_inside(what):
            yield what


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _external(file: Path) -> tuple[str, ...]:
    """Names of the files that hold an ONNX model's external data; walked again only when it has changed."""
    ((inode, size, changed_ns),) = signature_of([file])
    return _external_of(file, inode, size, changed_ns)


@lru_cache(maxsize=256)
def _external_of(file: Path, _inode: int, _size: int, _changed_ns: int) -> tuple[str, ...]:
    try:
        with file.open("rb") as data:
            return tuple(sorted(name for name in {*_locations(data, size_of(data))} if _is_inside(name)))
    except OSError:
        return ()


def _locations(data: BinaryIO, end: int) -> Iterator[str]:
    waiting = [("model", 0, end, 0)]
    while waiting:
        kind, start, stop, depth = waiting.pop()
        for field in fields(data, start, stop):
            inside = _INSIDE[kind].get(field.number)
            if inside == "external":
                yield from _location(data, field)
            elif inside and depth < _DEEPEST and field.end <= stop:
                waiting.append((inside, field.start, field.end, depth + (inside == "graph")))


def _location(data: BinaryIO, entry: ProtobufField) -> Iterator[str]:
    texts = {}
    for field in [*fields(data, entry.start, entry.end)]:
        if field.number in (_KEY, _VALUE) and field.end <= entry.end:
            data.seek(field.start)
            texts[field.number] = data.read(field.end - field.start).decode(errors="replace")
    if texts.get(_KEY) == "location" and _VALUE in texts:
        yield texts[_VALUE]
