"""Reads and compiles the graphs of one version of a model and warms them; it knows no pipeline."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openvino as ov

from cpuserve.errors import ModelLoadError
from cpuserve.serving.batcher import Batcher
from cpuserve.serving.engine import OpenVinoEngine
from cpuserve.serving.patient import PatientBatcher
from cpuserve.serving.statistics import Recorder

__all__ = ["Compiler", "read"]


@dataclass(frozen=True)
class Compiler:
    """How the graphs of one version are compiled.

    Attributes:
        core: the process's OpenVINO core.
        cache_dir: where compiled models are kept; empty: nowhere.
        threads: compute threads, one stream each.
        properties: further OpenVINO properties.
        recorder: counts the batches.
        delay_us: how long rows wait for company although a stream is idle, microseconds.
        own_weights: whether each stream has a compiled model of its own.
    """

    core: ov.Core
    cache_dir: str
    threads: int
    properties: Mapping[str, Any]
    recorder: Recorder
    delay_us: float = 0.0
    own_weights: bool = False

    def read(self, file: Path) -> ov.Model:
        """A model from its file.

        Raises:
            ModelLoadError: OpenVINO refuses it.
        """
        return read(self.core, file)

    def engine(self, graph: ov.Model, sizes: Sequence[int]) -> OpenVinoEngine:
        """A graph compiled for batches of ``sizes``.

        Raises:
            ModelLoadError: OpenVINO refuses it, or the cache cannot be used.
        """
        with _alone_in(self.cache_dir):
            return OpenVinoEngine(
                self.core,
                graph,
                sizes,
                streams=self.threads,
                threads=self.threads,
                properties=self.properties,
                own_weights=self.own_weights,
            )

    def batcher(self, graph: ov.Model, sizes: Sequence[int]) -> Batcher:
        """A graph compiled, with its batches, and warmed.

        Raises:
            ModelLoadError: as `engine`.
        """
        engine = self.engine(graph, sizes)
        engine.warm()
        if self.delay_us:
            made: Batcher = PatientBatcher(engine, self.recorder, self.delay_us)
        else:
            made = Batcher(engine, self.recorder)
        return made


def read(core: ov.Core, file: Path) -> ov.Model:
    """A model from its file.

    Raises:
        ModelLoadError: OpenVINO refuses it.
    """
    try:
        return core.read_model(file)
    except Exception as error:  # a damaged file may raise anything, an IndexError for one
        lines = str(error).strip().splitlines()
        raise ModelLoadError(f"{file} cannot be read: {(lines or [type(error).__name__])[-1]}") from error


@contextmanager
def _alone_in(folder: str) -> Iterator[None]:
    """Let one process at a time compile into a cache: the others then find what it has put there."""
    if not folder:
        yield
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ModelLoadError(f"cache_dir {folder} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
