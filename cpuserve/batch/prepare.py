"""Prepares a job: its inputs, its units, its model and its folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cpuserve.batch.job_folder import JobFolder
from cpuserve.batch.manifest import BatchManifest
from cpuserve.batch.shard_formats import ShardFormat, check_format
from cpuserve.batch.sources import BatchInput, find_inputs, local_path
from cpuserve.batch.work_units import VideoParts, WorkUnit, plan_units
from cpuserve.batch.worker_task import BatchTask, LoadedModel
from cpuserve.errors import VideoError
from cpuserve.models.find_model import find_model
from cpuserve.serving.model_snapshot import snapshot
from cpuserve.settings import Settings
from cpuserve.video.scale import Scaler

__all__ = ["BatchOptions", "PreparedJob", "prepare_job"]

_DECIDING = ("decode", "precision", "max_pixels", "shape", "plugin_config", "max_batch", "allow_unvalidated")
"""Settings that decide rows."""


@dataclass(frozen=True)
class BatchOptions:
    """What is asked of a job beside its inputs, model and settings.

    Attributes:
        as_format: of the shards.
        shard_rows: a shard ends with the unit in which it reaches so many rows.
        every: only frames with a number that this divides.
        topk: number of classes wanted; None for the model's own.
        scaler: of swscale, for frames.
    """

    as_format: ShardFormat = "jsonl"
    shard_rows: int = 5000
    every: int = 1
    topk: int | None = None
    scaler: Scaler = "bilinear"


@dataclass(frozen=True)
class PreparedJob:
    """A job that can be run.

    Attributes:
        task: of each worker.
        model: that each has to load.
        manifest: what is asked.
        units: in the order of the rows.
        as_format: of the shards.
    """

    task: BatchTask
    model: LoadedModel
    manifest: BatchManifest
    units: Sequence[WorkUnit]
    as_format: ShardFormat

    @property
    def rows(self) -> int:
        """How many are expected; damaged videos have fewer."""
        return sum(unit.rows for unit in self.units)

    def open(self, *, overwrite: bool = False) -> JobFolder:
        """Open its folder; see `JobFolder`."""
        return JobFolder(self.manifest, self.units, self.as_format, overwrite=overwrite)


def prepare_job(
    arguments: Sequence[str],
    model: str,
    output: Path,
    settings: Settings,
    options: BatchOptions,
    looked_at: Callable[[str], None] = lambda _uri: None,
) -> PreparedJob:
    """Find the inputs and the model, and divide the work.

    Args:
        arguments: as of `cpuserve.batch.sources.find_inputs`.
        model: as of `cpuserve.models.find_model.find_model`.
        output: the folder.
        settings: the settings in force.
        options: the rest.
        looked_at: is told of each video whose packets are read.

    Raises:
        UsageError: an input is not there.
        UnknownModel: the model is not.
        MissingExtra: a package of an extra is not installed.
        CpuserveError: the model cannot be read.
    """
    check_format(options.as_format)
    settings = replace(settings, model_repository=settings.model_repository.resolve())
    file = find_model(model, settings.model_repository)
    with snapshot(file, settle_s=0, copy=False) as found:
        loaded = LoadedModel(file.name, file.version, found.checksum, "")
    inside = file.xml.is_relative_to(settings.model_repository)
    # a version that is published meanwhile does not count
    named: str | Path = f"{file.name}/{file.version}" if inside else Path(model).resolve()
    folder = Path.cwd()
    inputs = find_inputs(arguments)

    def parts_of(video: BatchInput) -> VideoParts:
        looked_at(video.uri)
        return _parts_of(local_path(video.uri, folder), settings.max_pixels)

    units = plan_units(inputs, parts_of, shard_rows=options.shard_rows, every=options.every)
    manifest = BatchManifest(
        output,
        {"name": loaded.name, "version": loaded.version, "checksum": loaded.checksum},
        _deciding(settings, options),
        inputs,
    )
    task = BatchTask(named, settings, folder, options.every, options.topk, options.scaler)
    return PreparedJob(task, loaded, manifest, [*units], options.as_format)


def _deciding(settings: Settings, options: BatchOptions) -> dict[str, Any]:
    asked = {
        "format": options.as_format,
        "shard_rows": options.shard_rows,
        "every": options.every,
        "topk": options.topk,
        "scaler": options.scaler,
    }
    return asked | {name: getattr(settings, name) for name in _DECIDING}


def _parts_of(path: Path, max_pixels: int) -> VideoParts:
    from cpuserve.video.decoding import probe_apart  # noqa: PLC0415  # PyAV only for videos

    try:
        video = probe_apart(path, max_pixels=max_pixels)
    except VideoError:
        return VideoParts(0, ())  # its row says why
    starts = [segment.start for segment in video.segments] if video.ordered else []
    return VideoParts(video.frames, starts)
