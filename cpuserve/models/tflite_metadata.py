"""Reads what TensorFlow Lite's metadata say of pictures and labels."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cpuserve.models.flatbuffer import FlatTable

__all__ = ["TfliteMetadata", "associated_files", "tflite_metadata"]

_MOST_BYTES = 16 << 20  # of the metadata or of a file of labels
_METADATA = b"TFLITE_METADATA"
_NORMALISATION, _PICTURE, _RGB = 1, 2, 1  # numbers of the schema's unions and of its colour space
_LABELS = (2, 3)  # names of the places of an axis, and names of values


@dataclass(frozen=True)
class TfliteMetadata:
    """What the metadata say.

    Attributes:
        rgb: the first input is an RGB picture.
        mean: subtracted from its pixels, which are 0 to 255.
        std: divides them after that; for a quantised model both make the real numbers.
        labels: of the first output that has some.
        description: of the model.
        licence: of the model.
    """

    rgb: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    description: str = ""
    licence: str = ""


def tflite_metadata(file: Path) -> TfliteMetadata | None:
    """The metadata of a TensorFlow Lite file; None where it has none, or damaged ones."""
    try:
        found = _metadata(file.read_bytes())
        return None if found is None else _read(FlatTable.root(found), file)
    except (OSError, struct.error, IndexError):
        return None


def associated_files(file: Path) -> dict[str, bytes]:
    """The small files that a TensorFlow Lite file carries behind its end, as a zip archive has them."""
    try:
        with zipfile.ZipFile(file) as archive:
            return {
                entry.filename: archive.read(entry)
                for entry in archive.infolist()
                if entry.file_size <= _MOST_BYTES
            }
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, ValueError):
        return {}


def _metadata(data: bytes) -> bytes | None:
    """The buffer of the metadata: the model's fields are 4 for the buffers and 6 for the named ones."""
    if data[4:8] != b"TFL3":
        return None
    model = FlatTable.root(data)
    for entry in model.tables(6):
        if entry.content(0) == _METADATA:
            buffer = model.tables(4)[entry.number(1, "<I")]
            content = buffer.content(0)
            return content if content[4:8] == b"M001" and len(content) <= _MOST_BYTES else None
    return None


def _read(model: FlatTable, file: Path) -> TfliteMetadata:
    description, licence = model.text(1), model.text(5)
    graphs = model.tables(3)
    if not graphs:
        return TfliteMetadata(description=description, licence=licence)
    inputs, outputs = graphs[0].tables(2), graphs[0].tables(3)
    rgb = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    if inputs:
        content = inputs[0].table(3)
        picture = content.table(1) if content is not None and content.number(0) == _PICTURE else None
        rgb = picture is not None and picture.number(0) == _RGB
        for unit in inputs[0].tables(4):
            options = unit.table(1)
            if unit.number(0) == _NORMALISATION and options is not None:
                mean, std = options.floats(0), options.floats(1)
    labels = next(_labels(outputs, associated_files(file)), ())
    return TfliteMetadata(rgb, mean, std, labels, description, licence)


def _labels(outputs: list[FlatTable], files: dict[str, bytes]) -> Iterator[tuple[str, ...]]:
    for output in outputs:
        for entry in output.tables(6):
            if entry.number(2) in _LABELS and (content := files.get(entry.text(0))):
                yield tuple(line.strip() for line in content.decode(errors="replace").splitlines())
