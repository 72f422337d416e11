"""Reads, compiles and warms one version of a model and makes a pipeline of it."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import openvino as ov

from cpuserve.errors import ModelLoadError
from cpuserve.models.card import Card
from cpuserve.models.cut_manifest import CutManifest
from cpuserve.models.exporter_metadata import exporter_metadata
from cpuserve.models.model_files import SAVED_MODEL
from cpuserve.models.python_steps import PythonSteps
from cpuserve.models.quantization_record import check_validated
from cpuserve.models.repository import ModelFile
from cpuserve.serving.batcher import Batcher, DelayedBatcher
from cpuserve.serving.cache import CachingPipeline, ResultCache, check_repeatable
from cpuserve.serving.compile_properties import compile_properties, fillable_rows, own_weights
from cpuserve.serving.crash_check import CrashChecks
from cpuserve.serving.cut_parts import CutParts, CutPartsLoader
from cpuserve.serving.decoder_guard import shared_guard
from cpuserve.serving.engine import OpenVinoEngine
from cpuserve.serving.geometry import ROWS, batch_of
from cpuserve.serving.graph import (
    ImageInput,
    batch_sizes,
    image_graph,
    image_input,
    one_picture,
)
from cpuserve.serving.graph_settings import apply_graph_settings
from cpuserve.serving.judgement import measured_evidence
from cpuserve.serving.model_snapshot import snapshot
from cpuserve.serving.picture_input import PictureInput
from cpuserve.serving.picture_path import PicturePath
from cpuserve.serving.picture_recipe import integer_recipe
from cpuserve.serving.pipeline import Pipeline
from cpuserve.serving.port_types import with_served_types
from cpuserve.serving.postprocess import OutputEvidence, output_evidence, postprocessor
from cpuserve.serving.precision_choice import choose_precision
from cpuserve.serving.shape_setting import with_open_sides
from cpuserve.serving.source_model import prepare_model
from cpuserve.serving.statistics import Recorder, Statistics
from cpuserve.serving.step_parts import step_parts
from cpuserve.settings import Settings

__all__ = ["Compiler", "assemble", "load_pipeline", "properties_in_force", "read"]

_log = logging.getLogger("cpuserve.loader")
_LARGEST_BATCH = 8  # by default


@dataclass(frozen=True)
class Compiler:
    """Compiles the graphs of one version, all in the same way.

    Attributes:
        core: the process's OpenVINO core.
        cache_dir: where compiled models are kept; empty: nowhere.
        threads: compute threads, one stream each.
        properties: further OpenVINO properties.
        recorder: counts the batches.
        delay_us: how long rows wait for others although a stream is idle, microseconds.
        own_weights: whether each stream has its own compiled model.
    """

    core: ov.Core
    cache_dir: str
    threads: int
    properties: Mapping[str, Any]
    recorder: Recorder
    delay_us: float = 0.0
    own_weights: bool = False

    def read(self, file: Path) -> ov.Model:
        """Read a model from its file.

        Raises:
            ModelLoadError: OpenVINO refuses it.
        """
        return read(self.core, file)

    def engine(self, graph: ov.Model, sizes: Sequence[int]) -> OpenVinoEngine:
        """Compile a graph for batches of ``sizes``.

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
        """Compile a graph with its batches, and warm it.

        Raises:
            ModelLoadError: as `engine`.
        """
        engine = self.engine(graph, sizes)
        engine.warm()
        if self.delay_us:
            made: Batcher = DelayedBatcher(engine, self.recorder, self.delay_us)
        else:
            made = Batcher(engine, self.recorder)
        return made


def load_pipeline(
    core: ov.Core,
    file: ModelFile,
    settings: Settings,
    threads: int,
    recorder: Recorder | None = None,
    crash_checks: CrashChecks | None = None,
    settle_s: float = 0.0,
) -> Pipeline:
    """Load a version once its files no longer change: read, compile and warm it.

    Args:
        core: the process's OpenVINO core.
        file: the version.
        settings: the settings in force.
        threads: compute threads, one stream each.
        recorder: counts its requests; None where the counts are not read.
        crash_checks: loads it in a child process first; None: not.
        settle_s: how long its files have to be unchanged before.

    Raises:
        ModelChanging: its files change while they are read.
        ModelLoadError: the IR cannot be read or compiled, its metadata contradict it, or the child crashed.
    """
    with snapshot(file, settle_s=settle_s, copy=not settings.enable_mmap) as found:
        try:
            if crash_checks is not None:
                crash_checks.check(found.file, found.checksum, settings, threads)
            made = assemble(core, found.file, settings, threads, recorder)
        except ModelLoadError as error:  # name the files by their place in the repository
            said = str(error).replace(str(found.file.xml.parent), str(file.xml.parent))
            raise type(error)(said) from error
    return replace(made, checksum=found.checksum)


def assemble(
    core: ov.Core, file: ModelFile, settings: Settings, threads: int, recorder: Recorder | None = None
) -> Pipeline:
    """Read, compile and warm one version of a model from files that do not change.

    Args:
        core: the process's OpenVINO core.
        file: the version.
        settings: the settings in force.
        threads: compute threads, one stream each.
        recorder: counts its requests; None where the counts are not read.

    Raises:
        ModelLoadError: the IR cannot be read or compiled, or its metadata contradict it.
    """
    core.set_property({"ENABLE_MMAP": settings.enable_mmap})  # also of compiled models in the cache
    recorder = recorder or Statistics(rows=1, models=1).recorder(0, file.name, file.version)
    model = read(core, file.xml)
    card = Card.read(model)
    settings = settings.for_model(file.name, {"decode": card.decode, "precision": card.precision})
    check_validated(model, f"{file.name}/{file.version}", allow=settings.allow_unvalidated)
    precision = choose_precision(settings, model, core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    settings = replace(settings, precision=precision.precision)
    properties, delay_us = compile_properties(settings, threads), settings.max_queue_delay_us
    compiler = Compiler(
        core, settings.cache_dir, threads, properties, recorder, delay_us, own_weights(settings, threads)
    )
    if settings.max_batch is None:
        settings = replace(settings, max_batch=min(_LARGEST_BATCH, fillable_rows(settings, threads)))
    parts, steps = CutManifest.of(file.xml), PythonSteps.of(file.xml)
    if steps is not None:
        parts, card = step_parts(steps, model, card, file.name)
    if parts is None:
        model, card = apply_graph_settings(model, card, settings)
        opened = with_open_sides(model, settings.shape) if settings.shape else None
        batch = batch_of(opened or model, card)
        tensors, pictures = _whole_model(model, opened, card, settings, compiler, batched=batch.free)
        engine = (tensors if pictures is None else pictures.batcher).engine
        cut, outputs, evidence = None, engine.outputs, output_evidence(model)
    else:
        batch = ROWS  # heads and tails run row by row, and so does a core without a batch
        tensors, pictures, cut, card = _cut_model(file, model, parts, card, settings, compiler)
        outputs, evidence = cut.outputs, _of_cut(cut, probabilities=parts.probabilities)
        if steps is not None and steps.after is None:  # the outputs are the graph's own
            evidence = output_evidence(model)
    resizer = None if pictures is None else pictures.picture_input.resizer
    post = postprocessor(card, outputs, resizer, evidence, model)
    made = (file.name, file.version, card, tensors, pictures, post, recorder, cut)
    recorder.put("streams", tensors.engine.streams)
    if not settings.result_cache_bytes:
        return Pipeline(*made, batch=batch, precision_reason=precision.reason)
    check_repeatable(model, parts, file.name)
    return CachingPipeline(
        *made,
        batch=batch,
        precision_reason=precision.reason,
        results=ResultCache(settings.result_cache_bytes),
    )


def _of_cut(cut: CutParts, *, probabilities: bool) -> tuple[OutputEvidence, ...]:
    """What is known of a cut model's outputs: whether the first holds probabilities of classes."""
    first = OutputEvidence("softmax", -1) if probabilities else OutputEvidence()
    return (first, *[OutputEvidence()] * (len(cut.outputs) - 1))


def read(core: ov.Core, file: Path) -> ov.Model:
    """Read a model from its file; that of another format than IR is prepared as `convert` does it.

    Args:
        core: the process's OpenVINO core.
        file: an IR's XML, or a file of another format that OpenVINO reads.

    Raises:
        ModelLoadError: OpenVINO refuses it, or its metadata cannot be meant.
    """
    try:
        model = core.read_model(file.parent if file.name == SAVED_MODEL else file)
    except Exception as error:  # a damaged file may raise anything, an IndexError for one
        lines = str(error).strip().splitlines()
        said = f"{file} cannot be read: {(lines or [type(error).__name__])[-1]}"
        if file.suffix != ".xml":
            said += "; `cpuserve convert` says why, and converts more models than are read as they are"
        raise ModelLoadError(said) from error
    if file.suffix != ".xml":
        return _prepared(model, file)
    model = with_served_types(model, file.name)
    card = Card.read(model)
    if (fed := integer_recipe(model, card)) != card:
        fed.write(model)
    return model


def _prepared(model: ov.Model, file: Path) -> ov.Model:
    """The graph of a file of another framework, as `convert` would write it."""
    metadata = exporter_metadata(file.parent if file.name == SAVED_MODEL else file)
    made = prepare_model(model, file.name, metadata, {"source": file.name}, _measured)
    for reason in (*made.reasons, made.answers):
        _log.info("%s: %s", file.name, reason)
    return made.model


def _measured(model: ov.Model) -> tuple[OutputEvidence, ...]:
    """What graph and values show of each output; the graph alone where it fails with random numbers."""
    try:
        return measured_evidence(model)
    except RuntimeError:
        return output_evidence(model)


def _whole_model(
    graph: ov.Model,
    opened: ov.Model | None,
    card: Card,
    settings: Settings,
    compiler: Compiler,
    *,
    batched: bool,
) -> tuple[Batcher, PicturePath | None]:
    """The batchers for tensors and for pictures of a graph that takes both itself.

    Args:
        graph: takes the pictures.
        opened: takes the tensors, where it has other sides.
        card: its metadata.
        settings: as they hold for the model.
        compiler: compiles both.
        batched: whether requests are joined and cut by rows.
    """
    source = image_input(graph, card)
    if not batched:
        tensors = compiler.batcher(opened or graph, ())
        single = None if source is None else one_picture(graph)
        if source is None or single is None:
            return tensors, None
        taking = compiler.batcher(image_graph(single, source, card), ())
        return tensors, PicturePath(_picture_input(source, card, settings), taking)
    sizes = batch_sizes(graph, settings.max_batch or 1, source)
    if source is None:
        return compiler.batcher(graph, sizes), None
    taking = image_graph(graph, source, card)
    pictures = PicturePath(_picture_input(source, card, settings), compiler.batcher(taking, sizes))
    same_type = taking.input(0).element_type == graph.input(0).element_type
    if same_type and source.layout == "NHWC" and not (card.mean_values or card.scale_values):
        return pictures.batcher, pictures  # u8 NHWC as it is: the picture's graph is the model's own
    # a second set of batches would double the memory; rows of tensors spread over the streams as they are
    return compiler.batcher(graph, [1]), pictures


def _cut_model(
    file: ModelFile, core: ov.Model, parts: CutManifest, card: Card, settings: Settings, compiler: Compiler
) -> tuple[Batcher, PicturePath | None, CutParts, Card]:
    """The batchers, head and tail of a cut model, and the card for what clients send."""
    loader = CutPartsLoader(
        file,
        parts,
        compiler.read,
        partial(compiler.engine, sizes=[1]),
        allow_callables=settings.allow_callables,
    )
    if settings.shape:
        raise ModelLoadError(f"{file.name} is cut or runs Python: its shape is set before, not with `shape`")
    batched = batch_of(core, card).free
    front = loader.front()
    if front is None:
        core, card = apply_graph_settings(core, card, settings)
        tensors, pictures = _whole_model(core, None, card, settings, compiler, batched=batched)
        inputs, head = tensors.engine.inputs, None
    else:
        front, card = apply_graph_settings(front, card, settings)
        source = image_input(front, card)
        sizes = batch_sizes(core, settings.max_batch or 1, source) if batched else ()
        tensors, pictures = compiler.batcher(core, sizes), None
        inputs, head = loader.head(front, tensors.engine.inputs)
        if source is not None:
            _, of_pictures = loader.head(image_graph(front, source, card), tensors.engine.inputs)
            pictures = PicturePath(_picture_input(source, card, settings), tensors, of_pictures)
    if any(-1 in port.shape[1:] for port in tensors.engine.inputs):
        raise ModelLoadError(
            f"the core of {file.name} has inputs with variable sides: cut or convert it with fixed ones"
        )
    outputs, tail = loader.tail(tensors.engine.outputs)
    return tensors, pictures, CutParts(inputs, outputs, head, tail), card


def _picture_input(source: ImageInput, card: Card, settings: Settings) -> PictureInput:
    return PictureInput.of(
        source,
        card,
        exact=settings.decode == "exact",
        max_pixels=settings.max_pixels,
        max_scan_pixels=settings.max_jpeg_scan_pixels,
        guard=shared_guard(settings.guarded_decoding, settings.decode_timeout_ms),
    )


def properties_in_force(pipeline: Pipeline) -> str:
    """The OpenVINO properties a model runs with, as one line for the log."""
    engine = pipeline.batcher.engine
    words = [f"{name}={value}" for name, value in engine.read_back().items()]
    return ", ".join([*words, f"batches {list(engine.sizes)}"])


@contextmanager
def _alone_in(folder: str) -> Iterator[None]:
    """Let one process at a time compile into a cache, so that the others find its result there."""
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
