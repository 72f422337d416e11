"""One version of a model read, compiled and warmed into a pipeline; it keeps none."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import openvino as ov

from cpuserve.errors import ModelLoadError
from cpuserve.models.card import Card
from cpuserve.models.repository import ModelFile
from cpuserve.serving.batcher import Batcher
from cpuserve.serving.engine import OpenVinoEngine
from cpuserve.serving.feed import Feed
from cpuserve.serving.graph import batch_sizes, ends_in_softmax, image_graph, image_input
from cpuserve.serving.pipeline import Pictures, Pipeline
from cpuserve.serving.postprocess import postprocessor
from cpuserve.serving.prepare import plugin_properties, prepared
from cpuserve.serving.stats import Recorder, Statistics
from cpuserve.settings import Settings

__all__ = ["load_pipeline", "new_core", "properties_in_force"]

_WARM_ROUNDS = 2


def new_core() -> ov.Core:
    """The process's one OpenVINO core."""
    return ov.Core()


def load_pipeline(
    core: ov.Core, file: ModelFile, settings: Settings, threads: int, recorder: Recorder | None = None
) -> Pipeline:
    """Read, compile and warm one version of a model.

    Args:
        core: the process's OpenVINO core.
        file: the version.
        settings: the settings in force.
        threads: compute threads, one stream each.
        recorder: counts what is done with it; None for a process that nobody asks.

    Raises:
        ModelLoadError: the IR cannot be read or compiled, or its metadata contradict it.
    """
    recorder = recorder or Statistics(rows=1, models=1).recorder(0, file.name, file.version)
    try:
        model = core.read_model(file.xml)
    except RuntimeError as error:
        raise ModelLoadError(f"{file.xml} cannot be read: {str(error).strip().splitlines()[-1]}") from error
    card = Card.read(model)
    settings = settings.for_model(file.name, {"decode": card.decode, "precision": card.precision})
    properties = plugin_properties(settings)
    model, card = prepared(model, card, settings)
    source = image_input(model, card)
    sizes = batch_sizes(model, settings.max_batch, source)

    def batcher(graph: ov.Model, sizes: Sequence[int]) -> Batcher:
        with _alone_in(settings.cache_dir):
            engine = OpenVinoEngine(
                core, graph, sizes, streams=threads, threads=threads, properties=properties
            )
        made = Batcher(engine, recorder)
        _warm(made)
        return made

    pictures, tensors = None, None
    if source is not None:
        graph = image_graph(model, source, card)
        feed = Feed.of(source, card, exact=settings.decode == "exact", max_pixels=settings.max_pixels)
        pictures = Pictures(feed, batcher(graph, sizes))
        if graph.input(0).element_type == model.input(0).element_type and source.layout == "NHWC":
            # u8 NHWC without mean and scale: the picture's graph is the model's own
            tensors = pictures.batcher if not (card.mean_values or card.scale_values) else None
    # a second set of batches would double the memory; rows of a tensor spread over the streams as well
    tensors = tensors or batcher(model, sizes if pictures is None else [1])
    post = postprocessor(
        card,
        tensors.engine.outputs,
        None if pictures is None else pictures.feed.resizer,
        probabilities=card.output_raw_scores or ends_in_softmax(model),
        model=model,
    )
    return Pipeline(file.name, file.version, card, tensors, pictures, post, recorder)


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


def _warm(batcher: Batcher) -> None:
    """Run every compiled size on every stream, so that no request is the first of its kind."""
    engine = batcher.engine
    with ThreadPoolExecutor(engine.streams) as streams:
        for size in engine.sizes:
            for _ in range(_WARM_ROUNDS):
                list(streams.map(lambda count: _run_rows(batcher, count), [size] * engine.streams))


def _run_rows(batcher: Batcher, count: int) -> None:
    rows = batcher.claim(count)
    try:
        batcher.engine.run(rows.slot.memory, [(rows.first - rows.first % count, count)])
    finally:
        batcher.release(rows)


def properties_in_force(pipeline: Pipeline) -> str:
    """The OpenVINO properties a model runs with, as one line for the log."""
    engine = pipeline.batcher.engine
    words = [f"{name}={value}" for name, value in engine.read_back().items()]
    return ", ".join([*words, f"batches {list(engine.sizes)}"])
