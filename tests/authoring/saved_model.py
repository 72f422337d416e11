"""Writes the directory of a TensorFlow SavedModel around a frozen graph, without TensorFlow."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_saved_model"]


def write_saved_model(folder: Path, graph: Path, source: str, target: str) -> Path:
    """A SavedModel whose only signature reads ``source`` and gives ``target``, both tensors of ``graph``."""
    signature = (
        _field(1, _field(1, b"pixels") + _field(2, _tensor(source)))
        + _field(2, _field(1, b"scores") + _field(2, _tensor(target)))
        + _field(3, b"tensorflow/serving/predict")
    )
    meta = (
        _field(1, _field(4, b"serve"))
        + _field(2, graph.read_bytes())
        + _field(5, _field(1, b"serving_default") + _field(2, signature))
    )
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"\x08\x01" + _field(2, meta))
    return folder


def _tensor(name: str) -> bytes:
    return _field(1, name.encode()) + b"\x10\x01"  # a float


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])
