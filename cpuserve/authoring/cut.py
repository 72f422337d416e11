"""Cuts a model into head, core and tail: source, split, comparison with the whole, publish."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import openvino as ov

from cpuserve.authoring import catalog
from cpuserve.authoring.complexity import complexity
from cpuserve.authoring.cut_parity import CutComparison
from cpuserve.authoring.graph_split import SplitGraph, split_graph
from cpuserve.authoring.source import read_source
from cpuserve.authoring.tensorflow_graph import FrozenGraph, split_frozen_graph
from cpuserve.errors import ModelLoadError, RepositoryError, UnknownModel, UsageError
from cpuserve.models.card import Card
from cpuserve.models.cut_manifest import IR, NONE, CutManifest, CutPart, CutPort
from cpuserve.models.exporter_metadata import exporter_metadata
from cpuserve.models.repository import ModelFile, Repository
from cpuserve.serving.postprocess.evidence import SOFTMAX, output_evidence
from cpuserve.serving.servable_graph import free_batch, source_card
from cpuserve.settings import Settings

__all__ = ["CutOrder", "CutReport", "CutSource", "cut"]


@dataclass(frozen=True)
class CutSource:
    """A model that can be cut.

    Attributes:
        model: its graph.
        card: its card.
        name: name of the file, or NAME/VERSION.
        sha256: checksum of the file.
        frozen_graph: the tensors of a frozen TensorFlow graph, which is cut at those; None for other models.
    """

    model: ov.Model
    card: Card
    name: str
    sha256: str
    frozen_graph: FrozenGraph | None

    @classmethod
    def find(cls, text: str, repository: Repository, card_of: str = "") -> CutSource:
        """Reads a model from a file or from the repository.

        A file without a card gets the card of the catalogue entry with the same checksum, if there is one,
        else that of its exporter's metadata and of the habits of its framework, as `convert` gives it.

        Args:
            text: path of a file, or NAME or NAME/VERSION of the repository.
            repository: where models are.
            card_of: take the card of this model of the repository.

        Raises:
            UsageError: there is neither such a file nor such a model, or the model is cut already.
            ModelLoadError: it cannot be read.
        """
        file = Path(text) if Path(text).exists() else _in_repository(text, repository)
        if CutManifest.of(file) is not None:
            raise UsageError(f"{text} is the core of a cut model; cut the model that it was made of")
        found = read_source(str(file))
        card = Card.read(found.model)
        if card_of:
            card = Card.read(read_source(str(_in_repository(card_of, repository))).model)
        elif card == Card():
            card = _of_catalogue(found.sha256)
            if card == Card() and found.framework not in ("ir", "pytorch") and found.path is not None:
                card = source_card(found.model, exporter_metadata(found.path), {}).card
        frozen = found.framework == "tf" and file.is_file()
        name = found.name if Path(text).exists() else text
        return cls(found.model, card, name, found.sha256, FrozenGraph(file) if frozen else None)

    def write_metadata(self, core: ov.Model) -> None:
        """Copies the card and the accuracy on record into the core."""
        for key, value in self.model.get_rt_info().items():
            core.set_rt_info(value, key)
        self.card.write(core)

    def split(self, inputs: Sequence[str], outputs: Sequence[str]) -> SplitGraph:
        """Splits the graph into head, core and tail, with a free batch where the graph allows it.

        Raises:
            UsageError: no such tensor, or a cut that leaks.
            ModelLoadError: OpenVINO refuses a part.
        """
        if self.frozen_graph is None:
            made = split_graph(self.model, inputs, outputs)
        else:
            made = split_frozen_graph(self.frozen_graph, inputs, outputs)
        for part in (made.head, made.core, made.tail):
            if part is not None:
                free_batch(part)
        return made


@dataclass(frozen=True)
class CutOrder:
    """Where to cut a model, and how head and tail run.

    Attributes:
        name: name to publish the cut model under.
        inputs: tensors where the core begins; none: the inputs of the whole model.
        outputs: tensors where the core ends; none: the outputs of the whole model.
        head: how the head runs.
        tail: how the tail runs.
        images: pictures to compare whole and parts on; none: random numbers.
        min_agreement: smallest share of equal classes, 0 to 1; see `CutComparison`.
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
    """A cut model that was published.

    Attributes:
        file: the published version.
        parts: content of its `cut.json`, with multiply-adds and parity.
    """

    file: ModelFile
    parts: CutManifest


def cut(
    whole: CutSource,
    order: CutOrder,
    repository: Repository,
    settings: Settings,
    threads: int,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> CutReport:
    """Cuts a model and publishes it as the next version of its name; nothing is left behind on failure.

    Args:
        whole: the model.
        order: where to cut, and how head and tail run.
        repository: where to publish.
        settings: settings in force.
        threads: threads for the comparison.
        progress: called with the number of rows compared so far and in all.

    Raises:
        UsageError: the cut cannot be made.
        ModelLoadError: a part cannot be run, or the parts answer differently from the whole model.
        RepositoryError: the repository cannot be written.
    """
    made = whole.split(order.inputs, order.outputs)
    parts = CutManifest(
        _chosen(order.head, made.head, "--head"),
        _chosen(order.tail, made.tail, "--tail"),
        tuple(map(CutPort.of, whole.model.inputs)),
        tuple(map(CutPort.of, whole.model.outputs)),
        output_evidence(made.core if order.tail.run == NONE else whole.model)[0].function == SOFTMAX,
        {
            "source": {"name": whole.name, "sha256": whole.sha256},
            "core": {
                "inputs": [dataclasses.asdict(CutPort.of(port)) for port in made.core.inputs],
                "outputs": [dataclasses.asdict(CutPort.of(port)) for port in made.core.outputs],
            },
            "multiply_adds": {
                name: _multiply_adds(part)
                for name, part in (("head", made.head), ("core", made.core), ("tail", made.tail))
                if part is not None
            },
        },
    )
    whole.write_metadata(made.core)
    with repository.publish(order.name, None) as folder:
        _save(folder, made, parts, order)
        try:
            number = max(repository.versions(order.name), default=0) + 1
            trial = ModelFile(order.name, number, folder / "model.xml")
            comparison = CutComparison(whole.name, whole.model, whole.card, order.images, order.min_agreement)
            parity = comparison.run(made, parts, trial, settings, threads, progress)
        except ModelLoadError as error:
            raise ModelLoadError(str(error).replace(f"{folder}/", "")) from error  # it is gone by now
        parts = dataclasses.replace(parts, report={**parts.report, "parity": parity})
        parts.write(folder)
    return CutReport(repository.find(order.name), parts)


def _multiply_adds(part: ov.Model) -> int | None:
    """Those of a part; None where sides vary, so that they cannot be counted."""
    try:
        return complexity(part).multiply_adds
    except (ModelLoadError, RuntimeError):
        return None


def _chosen(part: CutPart, made: ov.Model | None, option: str) -> CutPart | None:
    if made is not None:
        return part.saved_in(option.removeprefix("--"))
    if part.run != IR:
        raise UsageError(f"{option}: nothing is cut off there, so nothing can run in its place")
    return None


def _save(folder: Path, made: SplitGraph, parts: CutManifest, order: CutOrder) -> None:
    """Writes the core as the version's model, the other parts into subdirectories, and `cut.json`."""
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


def _in_repository(text: str, repository: Repository) -> Path:
    name, _, version = text.partition("/")
    if version and not (version.isascii() and version.isdigit()):
        raise UsageError(f"there is no file {text}")
    try:
        return repository.find(name, int(version) if version else None).xml
    except UnknownModel as error:
        raise UsageError(f"there is no file {text}, and {error}") from error


def _of_catalogue(sha256: str) -> Card:
    for entry in catalog.entries().values():
        if entry.source.sha256 == sha256:
            labels = entry.labels if isinstance(entry.labels, tuple) else ()
            return dataclasses.replace(entry.card, labels=labels)
    return Card()
