"""Compares a cut model with the whole model: both run the same rows in f32."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from cpuserve.authoring.graph_split import SplitGraph
from cpuserve.authoring.parity import Parity, compare
from cpuserve.errors import CpuserveError, ModelLoadError, UndecodableImage, UsageError
from cpuserve.models.card import Card
from cpuserve.models.cut_manifest import NONE, CutManifest, CutPart, CutPort
from cpuserve.models.repository import ModelFile
from cpuserve.serving.engine import Array
from cpuserve.serving.graph import image_graph, image_input, pass_through
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.picture_input import PictureInput
from cpuserve.serving.request import Request
from cpuserve.settings import Settings, load

__all__ = ["CutComparison"]

_RANDOM_ROWS, _SEED = 4, 0
_F32 = {"INFERENCE_PRECISION_HINT": "f32"}


@dataclass(frozen=True)
class CutComparison:
    """What a cut model is compared with.

    Attributes:
        name: name of the whole model, for messages.
        model: its graph.
        card: its card.
        images: pictures to compare on; none: random numbers.
        min_agreement: smallest share of equal classes, 0 to 1. Numbers that are no class scores may differ by
            the rest, as a share of the largest number. 0 accepts every difference.
    """

    name: str
    model: ov.Model
    card: Card
    images: Sequence[Path]
    min_agreement: float

    def run(
        self,
        made: SplitGraph,
        parts: CutManifest,
        file: ModelFile,
        settings: Settings,
        threads: int,
        progress: Callable[[int, int], None],
    ) -> dict[str, Any]:
        """Runs both on the same rows.

        Args:
            made: the graphs of the parts; those that the client runs take part in the comparison too.
            parts: how the parts are served.
            file: the cut model, loaded as a server loads it.
            settings: settings in force.
            threads: threads of the cut model.
            progress: called with the number of rows compared so far and in all.

        Returns:
            The rows, the precision and the parity of each output, for the report.

        Raises:
            UsageError: pictures are given and the model takes none.
            UndecodableImage: a picture cannot be read.
            ModelLoadError: a part cannot be run, or the answers differ by more than is allowed.
        """
        allowed = {name: getattr(settings, name) for name in ("allow_callables", "allow_unvalidated")}
        flags = {"precision": "f32", "max_batch": 1, **allowed}
        pipeline = load_pipeline(openvino_core(), file, load(flags, environ={}), threads)
        whole = _F32Graph(self.model)
        before = _client_part(parts.head, made.head)
        after = _client_part(parts.tail, made.tail)
        count = len(self.images) or _RANDOM_ROWS
        wanted: list[Sequence[Array]] = []
        given: list[Sequence[Array]] = []
        for row in self._rows(settings):
            wanted.append(whole(row))
            given.append(after(pipeline.infer(before(row), Request())))
            progress(len(wanted), count)
        outputs = {}
        for index, port in enumerate(parts.outputs):
            ours, theirs = [row[index] for row in given], [row[index] for row in wanted]
            parity = compare(theirs, ours, self.card.model_type if index == 0 else "numbers")
            outputs[port.names[0]] = dataclasses.asdict(parity)
            if not self._allows(parity, theirs):
                raise ModelLoadError(
                    f"the cut model does not answer as {self.name}: output {port.names[0]} has {parity}; "
                    "mend the head or tail, or publish it all the same with --min-agreement 0"
                )
        pictures = f"{count} picture{'s' * (count != 1)}"
        rows = pictures if self.images else f"{count} rows of random numbers, seed {_SEED}"
        return {"on": rows, "precision": "f32", "outputs": outputs}

    def _allows(self, parity: Parity, reference: Sequence[Array]) -> bool:
        share = self.min_agreement
        if share <= 0:
            return True
        same = parity.top1_agreement if parity.pixel_agreement is None else parity.pixel_agreement
        if same is not None:
            return same >= share
        if parity.max_abs_diff is None:
            return False
        largest = max(float(np.abs(array.astype(np.float64)).max()) for array in reference)
        return parity.max_abs_diff <= max(1 - share, 1e-6) * largest

    def _rows(self, settings: Settings) -> Iterator[Sequence[Array]]:
        """Rows [1, ...] of the model's inputs: prepared pictures, or random numbers."""
        dice = np.random.default_rng(_SEED)
        ports = [CutPort.of(port) for port in self.model.inputs]
        front = pass_through(ports)
        source = image_input(front, self.card)
        if source is None:
            if self.images:
                raise UsageError(f"{self.name} takes no pictures: compare without --images")
            for _ in range(_RANDOM_ROWS):
                yield [_random(dice, port) for port in ports]
            return
        picture_input = PictureInput.of(source, self.card, exact=True, max_pixels=settings.max_pixels)
        prepare = _F32Graph(image_graph(front, source, self.card))
        if not self.images:
            for _ in range(_RANDOM_ROWS):
                pixels = dice.integers(0, 256, (1, source.height, source.width, source.channels), np.uint8)
                yield prepare([pixels])
        for image in self.images:
            try:
                yield prepare([picture_input.row(image.read_bytes())[None]])
            except OSError as error:
                raise UndecodableImage(f"{image} cannot be read: {error.strerror}") from error
            except CpuserveError as error:
                raise type(error)(f"{image}: {error}") from error


class _F32Graph:
    """Runs a graph in f32, one row at a time."""

    def __init__(self, model: ov.Model) -> None:
        self._compiled = openvino_core().compile_model(model, "CPU", _F32)

    def __call__(self, row: Sequence[Array]) -> list[Array]:
        found = self._compiled(list(row))
        return [np.array(found[port]) for port in self._compiled.outputs]


def _client_part(
    part: CutPart | None, graph: ov.Model | None
) -> Callable[[Sequence[Array]], Sequence[Array]]:
    """Runs a part that is left to the client; passes rows on where there is none."""
    if part is not None and part.run == NONE and graph is not None:
        return _F32Graph(graph)
    return lambda row: row


def _random(dice: np.random.Generator, port: CutPort) -> Array:
    sides = [abs(side) for side in port.shape]
    kind = port.element.to_dtype()
    if kind.kind in "iu":
        return dice.integers(0, np.iinfo(kind).max, sides, kind, endpoint=True)
    return dice.standard_normal(sides).astype(kind)
