"""Pulls a model of the catalogue: fetches its files, converts it and publishes it as version 1."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from cpuserve.authoring.catalog import CatalogEntry, CatalogFile, label_names
from cpuserve.authoring.download import Downloader, Progress
from cpuserve.authoring.ir_file import save_ir
from cpuserve.authoring.source import read_model
from cpuserve.errors import ModelLoadError
from cpuserve.models.repository import ModelFile, Repository
from cpuserve.serving.servable_graph import dequantise_output, free_batch

__all__ = ["publish_entry", "pull"]


def pull(
    entry: CatalogEntry,
    repository: Repository,
    downloader: Downloader,
    bar: Callable[[CatalogFile], Progress],
    *,
    replace: bool = False,
) -> ModelFile:
    """Fetches, converts and publishes a model of the catalogue.

    Args:
        entry: the model.
        repository: where to publish.
        downloader: fetches the files.
        bar: makes what shows the progress of one file.
        replace: replace an existing version 1.

    Raises:
        DownloadError: a file cannot be fetched.
        ChecksumError: a file is not the one the catalogue names.
        ModelLoadError: see `publish_entry`.
        RepositoryError: see `publish_entry`.
    """
    file = downloader.fetch(entry.source, bar(entry.source))
    labels = entry.labels
    if isinstance(labels, CatalogFile):
        labels = label_names(downloader.fetch(labels, bar(labels)).read_text(encoding="utf-8-sig"))
    return publish_entry(entry, file, labels, repository, replace=replace)


def publish_entry(
    entry: CatalogEntry,
    file: Path,
    labels: tuple[str, ...],
    repository: Repository,
    *,
    replace: bool = False,
) -> ModelFile:
    """Converts the verified file of a catalogue entry and publishes it.

    Args:
        entry: what the catalogue says of the model.
        file: the model file.
        labels: names of the classes, in the order of the output.
        repository: where to publish.
        replace: replace an existing version 1.

    Raises:
        ModelLoadError: OpenVINO refuses the file, or its input is not the one the catalogue describes.
        RepositoryError: the repository cannot be written, or has the version.
    """
    model = read_model(file)
    shape = tuple(
        -1 if side.is_dynamic else side.get_length() for side in model.inputs[0].get_partial_shape()
    )
    if shape != entry.input_shape:
        raise ModelLoadError(
            f"{file.name} has input shape {list(shape)}; the catalogue says {list(entry.input_shape)}"
        )
    free_batch(model)
    if entry.output is not None:
        dequantise_output(model, entry.output)
    model.set_friendly_name(entry.name)
    dataclasses.replace(entry.card, labels=labels).write(model)
    with repository.publish(entry.name, 1, replace=replace) as folder:
        save_ir(model, folder, compress_to_fp16=entry.compress_to_fp16)
    return repository.find(entry.name, 1)
