"""A model that is to be cut: out of a file or the repository, with its card and the names of its tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import openvino as ov

from cpuserve.authoring import catalog, source
from cpuserve.authoring.cut import CutModel, cut
from cpuserve.authoring.servable_graph import free_batch
from cpuserve.authoring.tensorflow_graph import FrozenGraph, cut_places
from cpuserve.errors import UnknownModel, UsageError
from cpuserve.models.card import Card
from cpuserve.models.cut_manifest import CutManifest
from cpuserve.models.repository import Repository

__all__ = ["CutSource"]


@dataclass(frozen=True)
class CutSource:
    """A model before it is cut.

    Attributes:
        model: its graph.
        card: its metadata.
        name: of the file, or NAME/VERSION.
        sha256: of the file.
        places: the tensors of the source, for a frozen TensorFlow graph; None: the graph's own are meant.
    """

    model: ov.Model
    card: Card
    name: str
    sha256: str
    places: FrozenGraph | None

    @classmethod
    def find(cls, text: str, repository: Repository, card_of: str = "") -> CutSource:
        """The model that is meant by a file's path, or by NAME or NAME/VERSION of the repository.

        A file that carries no card and that the catalogue knows by its checksum gets the catalogue's.

        Args:
            text: the words.
            repository: where models are.
            card_of: take the card of this model of the repository.

        Raises:
            UsageError: neither a file nor a model, or a model that is a core already.
            ModelLoadError: it cannot be read.
        """
        file = Path(text) if Path(text).exists() else _in_repository(text, repository)
        if CutManifest.of(file) is not None:
            raise UsageError(f"{text} is the core of a cut model; cut the model that it was made of")
        found = source.read_source(str(file))
        card = Card.read(found.model)
        if card_of:
            card = Card.read(source.read_source(str(_in_repository(card_of, repository))).model)
        elif card == Card():
            card = _of_catalogue(found.sha256)
        frozen = found.framework == "tf" and file.is_file()
        name = found.name if Path(text).exists() else text
        return cls(found.model, card, name, found.sha256, FrozenGraph(file) if frozen else None)

    def describe(self, core: ov.Model) -> None:
        """Give a core what the whole's metadata say: the card, and what was measured of its accuracy."""
        for key, value in self.model.get_rt_info().items():
            core.set_rt_info(value, key)
        self.card.write(core)

    def cut(self, inputs: Sequence[str], outputs: Sequence[str]) -> CutModel:
        """Head, core and tail, whose batch is free where the graph allows it.

        Raises:
            UsageError: no such tensor, or a cut that leaks.
            ModelLoadError: OpenVINO refuses a part.
        """
        if self.places is None:
            made = cut(self.model, inputs, outputs)
        else:
            made = cut_places(self.places, inputs, outputs)
        for part in (made.head, made.core, made.tail):
            if part is not None:
                free_batch(part)
        return made


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
