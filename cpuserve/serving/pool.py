"""The models of one worker: loaded, warmed, found by name and version; it answers no request itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import openvino as ov

from cpuserve.errors import CpuserveError, ModelLoadError, ModelNotReady, UnknownModel
from cpuserve.models.card import Card
from cpuserve.models.repository import ModelFile, Repository
from cpuserve.serving.batcher import Batcher
from cpuserve.serving.decode import Decoder, Order
from cpuserve.serving.engine import OpenVinoEngine
from cpuserve.serving.graph import batch_sizes, ends_in_softmax, image_graph, image_input
from cpuserve.serving.pipeline import Pictures, Pipeline
from cpuserve.serving.postprocess import postprocessor
from cpuserve.serving.preprocess import Resizer
from cpuserve.serving.stats import Recorder, Statistics
from cpuserve.settings import Settings

__all__ = ["ModelState", "Pool", "load_pipeline", "new_core"]

_log = logging.getLogger("cpuserve.pool")
_WARM_ROUNDS = 2


@dataclass
class ModelState:
    """One version of one model and how far it is.

    Attributes:
        file: where it lies.
        state: "LOADING", "READY" or "UNAVAILABLE", Triton's words.
        reason: why it is unavailable.
        pipeline: what answers, once it is ready.
    """

    file: ModelFile
    state: str = "LOADING"
    reason: str = ""
    pipeline: Pipeline | None = None


class Pool:
    """The latest version of every model in a repository.

    Args:
        settings: the settings in force.
        threads: compute threads of this worker's seat; one stream each.
        statistics: the block of all workers.
        row: this worker's in it.
        names: the models to load; None for all.
    """

    def __init__(
        self,
        settings: Settings,
        threads: int,
        statistics: Statistics,
        row: int,
        names: Sequence[str] | None = None,
    ) -> None:
        self._settings = settings
        self.statistics = statistics
        self._row = row
        self._threads = threads
        repository = Repository(settings.model_repository)
        wanted = repository.names() if names is None else names
        self.models = {name: ModelState(repository.find(name)) for name in wanted}

    @property
    def ready(self) -> bool:
        """Whether every model is ready; false for a pool without models."""
        return bool(self.models) and all(model.state == "READY" for model in self.models.values())

    def load(self) -> None:
        """Load and warm every model; one that cannot be loaded is logged and stays UNAVAILABLE."""
        core = new_core()
        for name, model in self.models.items():
            began = time.perf_counter()
            try:
                recorder = self.statistics.recorder(self._row, name, model.file.version)
                model.pipeline = load_pipeline(core, model.file, self._settings, self._threads, recorder)
            except CpuserveError as error:
                model.state, model.reason = "UNAVAILABLE", str(error)
                _log.error("model %s version %d is not served: %s", name, model.file.version, error)
                continue
            model.state = "READY"
            _log.info(
                "model %s version %d ready after %.2f s: %s",
                *(name, model.file.version, time.perf_counter() - began, _properties(model.pipeline)),
            )

    def get(self, name: str, version: str | None = None) -> Pipeline:
        """The pipeline of a model.

        Args:
            name: of the model.
            version: its number as text; None for the version served.

        Raises:
            UnknownModel: there is no such model or version.
            ModelNotReady: it is loading, or could not be loaded.
        """
        model = self._state(name, version)
        if model.pipeline is None:
            raise ModelNotReady(f"model {name!r} is not ready: {model.reason or 'still loading'}")
        return model.pipeline

    def known(self, name: str, version: str | None = None) -> ModelFile:
        """The file of a model, ready or not.

        Raises:
            UnknownModel: there is no such model or version.
        """
        return self._state(name, version).file

    def _state(self, name: str, version: str | None) -> ModelState:
        model = self.models.get(name)
        if model is None:
            there = ", ".join(sorted(self.models)) or "none"
            raise UnknownModel(f"there is no model {name!r}; the models served are: {there}")
        if version is not None and version != str(model.file.version):
            raise UnknownModel(
                f"model {name!r} has no version {version!r}; the version served is {model.file.version}"
            )
        return model


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
    properties = {} if settings.precision == "auto" else {"INFERENCE_PRECISION_HINT": settings.precision}
    source = image_input(model, card)
    sizes = batch_sizes(model, settings.max_batch, source)

    def batcher(graph: ov.Model, sizes: Sequence[int]) -> Batcher:
        engine = OpenVinoEngine(core, graph, sizes, streams=threads, threads=threads, properties=properties)
        made = Batcher(engine, recorder)
        _warm(made)
        return made

    pictures, tensors = None, None
    if source is not None:
        graph = image_graph(model, source, card)
        order: Order = "GRAY" if source.channels == 1 else "RGB" if card.reverse_input_channels else "BGR"
        pictures = Pictures(
            Decoder(order, settings.decode == "exact", settings.max_pixels),
            Resizer(source.width, source.height, card.resize_type, card.interpolation_mode, card.pad_value),
            batcher(graph, sizes),
        )
        if graph.input(0).element_type == model.input(0).element_type and source.layout == "NHWC":
            # u8 NHWC without mean and scale: the picture's graph is the model's own
            tensors = pictures.batcher if not (card.mean_values or card.scale_values) else None
    # a second set of batches would double the memory; rows of a tensor spread over the streams as well
    tensors = tensors or batcher(model, sizes if pictures is None else [1])
    post = postprocessor(
        card.model_type,
        card.labels,
        tensors.engine.outputs,
        topk=card.topk,
        probabilities=card.output_raw_scores or ends_in_softmax(model),
    )
    return Pipeline(file.name, file.version, card, tensors, pictures, post, recorder)


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


def _properties(pipeline: Pipeline) -> str:
    engine = pipeline.batcher.engine
    words = [f"{name}={value}" for name, value in engine.read_back().items()]
    return ", ".join([*words, f"batches {list(engine.sizes)}"])
