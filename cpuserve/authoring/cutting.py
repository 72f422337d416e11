"""Cuts a model, shows that its parts answer as the whole does, and publishes them; it serves nothing."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from cpuserve.authoring.complexity import complexity
from cpuserve.authoring.cut import CutModel
from cpuserve.authoring.cut_source import CutSource
from cpuserve.authoring.parity import Parity, compare
from cpuserve.errors import CpuserveError, ModelLoadError, RepositoryError, UndecodableImage, UsageError
from cpuserve.models.cut_manifest import IR, NONE, CutManifest, CutPart, CutPort
from cpuserve.models.repository import ModelFile, Repository
from cpuserve.serving.engine import Array
from cpuserve.serving.graph import ends_in_softmax, image_graph, image_input, pass_through
from cpuserve.serving.loader import load_pipeline, new_core
from cpuserve.serving.picture_input import PictureInput
from cpuserve.serving.pipeline import Pipeline
from cpuserve.serving.request import Request
from cpuserve.settings import Settings, load

__all__ = ["CutOrder", "CutReport", "cut_and_publish"]

_RANDOM_ROWS, _SEED = 4, 0
_F32 = {"INFERENCE_PRECISION_HINT": "f32"}


@dataclass(frozen=True)
class CutOrder:
    """What is to be cut out of a model.

    Attributes:
        name: of the model that is published.
        inputs: tensors where the core begins; none: where the whole does.
        outputs: tensors where it ends; none: where the whole does.
        head: how the head runs.
        tail: how the tail runs.
        images: pictures to compare whole and parts on; none: random numbers.
        min_agreement: smallest share of classes that must be the same, 0 to 1; see `_alike`.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    head: CutPart
    tail: CutPart
    images: tuple[Path, ...] = ()
    min_agreement: float = 0.99


@dataclass(frozen=True)
class CutReport:
    """What came of it.

    Attributes:
        file: the version that was published.
        parts: as they are kept in `cut.json`, with multiply-adds and parity.
    """

    file: ModelFile
    parts: CutManifest


def cut_and_publish(
    whole: CutSource,
    order: CutOrder,
    repository: Repository,
    settings: Settings,
    threads: int,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> CutReport:
    """Cuts a model and publishes it as the next version of its name; nothing is left when that fails.

    Args:
        whole: the model.
        order: where, and how head and tail run.
        repository: where to publish.
        settings: the settings in force.
        threads: for the comparison.
        progress: told how many rows are compared, of how many.

    Raises:
        UsageError: the cut cannot be made.
        ModelLoadError: a part cannot be run, or the parts do not answer as the whole.
        RepositoryError: the repository cannot be written.
    """
    made = whole.cut(order.inputs, order.outputs)
    parts = CutManifest(
        _chosen(order.head, made.head, "--head"),
        _chosen(order.tail, made.tail, "--tail"),
        tuple(map(CutPort.of, whole.model.inputs)),
        tuple(map(CutPort.of, whole.model.outputs)),
        ends_in_softmax(made.core if order.tail.run == NONE else whole.model),
        {
            "source": {"name": whole.name, "sha256": whole.sha256},
            "core": {
                "inputs": [dataclasses.asdict(CutPort.of(port)) for port in made.core.inputs],
                "outputs": [dataclasses.asdict(CutPort.of(port)) for port in made.core.outputs],
            },
            "multiply_adds": {
                name: complexity(part).multiply_adds
                for name, part in (("head", made.head), ("core", made.core), ("tail", made.tail))
                if part is not None
            },
        },
    )
    whole.describe(made.core)
    with repository.publish(order.name, None) as folder:
        _save(folder, made, parts, order)
        try:
            number = max(repository.versions(order.name), default=0) + 1
            trial = ModelFile(order.name, number, folder / "model.xml")
            parity = _compare(whole, made, parts, trial, order, settings, threads, progress)
        except ModelLoadError as error:
            raise ModelLoadError(str(error).replace(f"{folder}/", "")) from error  # it is gone by now
        parts = dataclasses.replace(parts, report={**parts.report, "parity": parity})
        parts.write(folder)
    return CutReport(repository.find(order.name), parts)


def _chosen(part: CutPart, made: ov.Model | None, option: str) -> CutPart | None:
    if made is not None:
        return part.saved_in(option.removeprefix("--"))
    if part.run != IR:
        raise UsageError(f"{option}: nothing is cut off there, so nothing can run in its place")
    return None


def _save(folder: Path, made: CutModel, parts: CutManifest, order: CutOrder) -> None:
    """Write the core as the version's model, what else runs below it, and `cut.json`."""
    try:
        ov.save_model(made.core, folder / "model.xml", compress_to_fp16=False)
        for part, graph, ordered in (
            (parts.head, made.head, order.head),
            (parts.tail, made.tail, order.tail),
        ):
            if part is None or "/" not in part.what:
                continue
            (folder / part.what).parent.mkdir()
            if part.run == IR:
                ov.save_model(graph, folder / part.what, compress_to_fp16=False)
            else:
                shutil.copyfile(ordered.what, folder / part.what)
        parts.write(folder)
    except (OSError, RuntimeError) as error:
        raise RepositoryError(f"cannot write the parts of {order.name}: {error}") from error


def _compare(
    whole: CutSource,
    made: CutModel,
    parts: CutManifest,
    trial: ModelFile,
    order: CutOrder,
    settings: Settings,
    threads: int,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Run the whole and what will be served side by side, both in f32, and hold one to the other."""
    allowed = {name: getattr(settings, name) for name in ("allow_callables", "allow_unvalidated")}
    flags = {"precision": "f32", "max_batch": 1, **allowed}
    pipeline = load_pipeline(new_core(), trial, load(flags, environ={}), threads)
    reference = _Graph(whole.model)
    # a part that is left to the client takes part in the comparison all the same
    before = _Graph(made.head) if _left_out(parts.head) and made.head is not None else None
    after = _Graph(made.tail) if _left_out(parts.tail) and made.tail is not None else None
    count = len(order.images) or _RANDOM_ROWS
    wanted: list[Sequence[Array]] = []
    given: list[Sequence[Array]] = []
    for row in _rows(whole, order.images, settings):
        wanted.append(reference(row))
        found = _served(pipeline, row if before is None else before(row))
        given.append(found if after is None else after(found))
        progress(len(wanted), count)
    agreed = {}
    for index, port in enumerate(parts.outputs):
        ours, theirs = [row[index] for row in given], [row[index] for row in wanted]
        agreement = compare(theirs, ours, whole.card.model_type if index == 0 else "numbers")
        agreed[port.names[0]] = dataclasses.asdict(agreement)
        if not _alike(agreement, theirs, order.min_agreement):
            raise ModelLoadError(
                f"the cut model does not answer as {whole.name}: output {port.names[0]} has {agreement}; "
                "mend the head or tail, or publish it all the same with --min-agreement 0"
            )
    rows = (
        f"{count} picture{'s' * (count != 1)}"
        if order.images
        else f"{count} rows of random numbers, seed {_SEED}"
    )
    return {"on": rows, "precision": "f32", "outputs": agreed}


def _left_out(part: CutPart | None) -> bool:
    return part is not None and part.run == NONE


def _served(pipeline: Pipeline, row: Sequence[Array]) -> Sequence[Array]:
    return pipeline.infer(row, Request())


def _alike(agreement: Parity, reference: Sequence[Array], share: float) -> bool:
    """Whether so many classes are the same; numbers may differ by the rest, as a share of the largest."""
    if share <= 0:
        return True
    same = agreement.top1_agreement if agreement.pixel_agreement is None else agreement.pixel_agreement
    if same is not None:
        return same >= share
    if agreement.max_abs_diff is None:
        return False
    largest = max(float(np.abs(array.astype(np.float64)).max()) for array in reference)
    return agreement.max_abs_diff <= max(1 - share, 1e-6) * largest


class _Graph:
    """A graph that runs one row."""

    def __init__(self, model: ov.Model) -> None:
        self._compiled = ov.Core().compile_model(model, "CPU", _F32)

    def __call__(self, row: Sequence[Array]) -> list[Array]:
        found = self._compiled(list(row))
        return [np.array(found[port]) for port in self._compiled.outputs]


def _rows(whole: CutSource, images: Sequence[Path], settings: Settings) -> Iterator[Sequence[Array]]:
    """Rows [1, ...] of the whole's inputs: pictures as the card has them prepared, or random ones."""
    dice = np.random.default_rng(_SEED)
    ports = [CutPort.of(port) for port in whole.model.inputs]
    front = pass_through(ports)
    source = image_input(front, whole.card)
    if source is None:
        if images:
            raise UsageError(f"{whole.name} takes no pictures: compare without --images")
        for _ in range(_RANDOM_ROWS):
            yield [_random(dice, port) for port in ports]
        return
    picture_input = PictureInput.of(source, whole.card, exact=True, max_pixels=settings.max_pixels)
    prepare = _Graph(image_graph(front, source, whole.card))
    if not images:
        for _ in range(_RANDOM_ROWS):
            pixels = dice.integers(0, 256, (1, source.height, source.width, source.channels), np.uint8)
            yield prepare([pixels])
    for image in images:
        try:
            yield prepare([picture_input.row(image.read_bytes())[None]])
        except OSError as error:
            raise UndecodableImage(f"{image} cannot be read: {error.strerror}") from error
        except CpuserveError as error:
            raise type(error)(f"{image}: {error}") from error


def _random(dice: np.random.Generator, port: CutPort) -> Array:
    sides = [abs(side) for side in port.shape]
    kind = port.element.to_dtype()
    if kind.kind in "iu":
        return dice.integers(0, np.iinfo(kind).max, sides, kind, endpoint=True)
    return dice.standard_normal(sides).astype(kind)
