"""Writes a graph as the files of an OpenVINO IR."""

from __future__ import annotations

from pathlib import Path

import openvino as ov

from cpuserve.authoring.graph_import import reason
from cpuserve.errors import RepositoryError

__all__ = ["save_ir"]


def save_ir(model: ov.Model, folder: Path, *, compress_to_fp16: bool = False) -> Path:
    """Writes a model as ``model.xml`` and ``model.bin`` into a directory and returns the XML file.

    Raises:
        RepositoryError: it cannot be written.
    """
    file = folder / "model.xml"
    try:
        ov.save_model(model, file, compress_to_fp16=compress_to_fp16)
    except RuntimeError as error:
        raise RepositoryError(f"cannot write {file.name} to {folder.parent}: {reason(error)}") from error
    return file
