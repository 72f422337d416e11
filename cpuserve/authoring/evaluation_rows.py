"""Prepares pictures for a model as a server does, to evaluate and quantise the model without one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import openvino as ov
from openvino import opset13 as ops

from cpuserve.authoring.average_precision import Detection
from cpuserve.authoring.labelled_pictures import LabelledPicture
from cpuserve.authoring.nncf_quantizer import QuantizeTask
from cpuserve.authoring.precisions import compiled_for, run
from cpuserve.errors import ModelLoadError, RequestError, UsageError
from cpuserve.models.card import Card
from cpuserve.models.cut_manifest import CutManifest
from cpuserve.models.python_steps import PythonSteps
from cpuserve.models.repository import ModelFile
from cpuserve.serving.answer_agreement import AnswerReader, ServedAnswers, VectorReader
from cpuserve.serving.decode import Pixels
from cpuserve.serving.engine import Array, Port
from cpuserve.serving.graph import (
    ImageInput,
    image_graph,
    image_input,
    names_of,
    with_batch,
)
from cpuserve.serving.loader import read
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.picture_input import PictureInput, PictureSize
from cpuserve.serving.postprocess import Postprocessor, TensorsOnly, output_evidence, postprocessor
from cpuserve.serving.postprocess.evidence import NORMALISED
from cpuserve.serving.preprocess import Resizer
from cpuserve.settings import Settings

__all__ = ["EvaluationModel", "EvaluationRows"]

_LOW = 0.01  # boxes with lower scores do not count for a mean average precision


@dataclass(frozen=True)
class EvaluationRows:
    """Decoded pictures.

    Attributes:
        pictures: the pictures that could be decoded, with their labels.
        rows: input row of each, u8 [H, W, C].
        frames: size of each picture.
        left_out: file and reason of each picture that could not be decoded.
    """

    pictures: list[LabelledPicture]
    rows: list[Pixels]
    frames: list[PictureSize]
    left_out: list[tuple[Path, str]]


@dataclass(frozen=True)
class EvaluationModel:
    """A model and how pictures become its input.

    Attributes:
        model: the model of the IR.
        card: its card.
        source: its picture input.
        picture_input: decodes files to rows.
    """

    model: ov.Model
    card: Card
    source: ImageInput
    picture_input: PictureInput

    @classmethod
    def of(cls, core: ov.Core, file: ModelFile, settings: Settings) -> EvaluationModel:
        """Opens a version of a model.

        Raises:
            ModelLoadError: it cannot be read, takes no pictures, or is cut.
        """
        model = read(core, file.xml)
        card = Card.read(model)
        if CutManifest.of(file.xml) is not None:
            raise ModelLoadError(f"{file.name} is cut: take the whole model, and cut what becomes of it")
        if PythonSteps.of(file.xml) is not None:
            raise ModelLoadError(
                f"{file.name} runs Python before or after it: take the model without its steps.json"
            )
        source = image_input(model, card)
        if source is None:
            raise ModelLoadError(
                f"{file.name} takes no pictures: no single input [N, H, W, 3] or [N, 3, H, W]"
            )
        settings = settings.for_model(file.name, {"decode": card.decode, "precision": card.precision})
        exact = settings.decode == "exact"
        return cls(
            model, card, source, PictureInput.of(source, card, exact=exact, max_pixels=settings.max_pixels)
        )

    def served(self, model: ov.Model, batch: int = 1) -> ov.Model:
        """The graph that a server compiles for pictures.

        Args:
            model: this model, or one made of it.
            batch: pictures in a batch.

        Raises:
            ModelLoadError: it cannot be fixed to that batch.
        """
        fixed = with_batch(image_graph(model, self.source, self.card), batch)
        if fixed is None:
            raise ModelLoadError(f"the model does not take batches of {batch}: its outputs are not rows")
        return fixed

    @cached_property
    def prepare(self) -> Callable[[Pixels], Array]:
        """Makes the model's input, a batch of one, from a row.

        It runs the preparation of the served graph without the model, so that both are the same.
        """
        entry = self.model.input(0)
        shape = entry.partial_shape
        shape[0] = 1
        data = ops.parameter(shape, entry.element_type, name="data")
        identity = ov.Model([ops.result(data)], [data], "identity")
        graph = image_graph(identity, self.source, self.card)
        compiled = openvino_core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda row: np.array(compiled(row[np.newaxis])[0])

    @property
    def task(self) -> QuantizeTask:
        """The model and its preparation, for NNCF."""
        return QuantizeTask(self.model, self.served, self.prepare, self.card.labels)

    def rows(
        self, samples: Sequence[LabelledPicture], seen: Callable[[], None] = lambda: None
    ) -> EvaluationRows:
        """Decodes pictures and leaves out damaged ones.

        Args:
            samples: the pictures.
            seen: called after each picture.

        Raises:
            UsageError: none could be decoded.
        """
        found = EvaluationRows([], [], [], [])
        for sample in samples:
            row: Pixels = np.empty((self.source.height, self.source.width, self.source.channels), np.uint8)
            try:
                frame = self.picture_input.into(sample.file.read_bytes(), row)
            except RequestError as error:
                found.left_out.append((sample.file, str(error)))
            except OSError as error:
                found.left_out.append((sample.file, f"it cannot be read: {error.strerror}"))
            else:
                found.pictures.append(sample)
                found.rows.append(row)
                found.frames.append(frame)
            seen()
        if not found.rows:
            file, reason = found.left_out[0]
            raise UsageError(f"none of {len(samples)} pictures could be decoded; {file}: {reason}")
        return found

    def mask(self, sample: LabelledPicture) -> Pixels:
        """The mask of a picture, class ids u8 [H, W], resized as the picture is.

        Raises:
            UsageError: it has none, or the mask is not a grey picture of 8 bit.
        """
        if sample.mask is None:
            raise UsageError(f"{sample.file} has no mask")
        ids = cv2.imread(str(sample.mask), cv2.IMREAD_UNCHANGED)
        if ids is not None and ids.ndim == 3 and (ids[..., :1] == ids[..., :3]).all():
            ids = ids[..., 0]  # grey, stored as three channels
        if ids is None or ids.ndim != 2 or ids.dtype != np.uint8:
            raise UsageError(
                f"{sample.mask} is no mask: a mask is a grey picture of 8 bit, each pixel the number of its "
                "class; 255 does not count"
            )
        row: Pixels = np.empty((self.source.height, self.source.width, 1), np.uint8)
        resizer = Resizer(self.source.width, self.source.height, self.card.resize_type, "NEAREST", 255)
        resizer.into(row, np.ascontiguousarray(ids))
        return row[..., 0]

    def detector(self, frames: Sequence[PictureSize]) -> Callable[[Sequence[Array], int], list[Detection]]:
        """A function that reads boxes from the outputs for a picture, by the served post-processing.

        Args:
            frames: size of each picture.

        Raises:
            UsageError: the model does not answer with boxes.
        """
        post = self._postprocessor(replace(self.card, confidence_threshold=_LOW), self.model)
        if isinstance(post, TensorsOnly):
            raise UsageError(f"--metric map: the model's outputs are no boxes: {post.reason}")

        def find(outputs: Sequence[Array], index: int) -> list[Detection]:
            answer = post.answer(outputs, None, frames[index])
            if "detections" not in answer:
                raise UsageError(f"--metric map: the model answers {', '.join(answer)}, not detections")
            return [Detection(tuple(a["box"]), a["class_id"], a["probability"]) for a in answer["detections"]]

        return find

    def answers(self, frames: Sequence[PictureSize]) -> AnswerReader:
        """What reads answers from the outputs for a picture: the served post-processing, or an embedding.

        Args:
            frames: size of each picture.
        """
        post, known = self._postprocessor(self.card, self.model), output_evidence(self.model)
        if isinstance(post, TensorsOnly) and [one.function for one in known] == [NORMALISED]:
            return VectorReader()
        return ServedAnswers(post, frames)

    def reads_alike(self, core: ov.Core, graph: ov.Model, pictures: EvaluationRows) -> bool:
        """Whether a server reads the outputs of a graph made of this model as it reads this model's own.

        A server judges a model that does not say what it answers by its graph.

        Args:
            core: OpenVINO's core.
            graph: made of this model.
            pictures: some pictures.

        Raises:
            RequestError: the outputs make no answer.
        """
        own, its = (self._postprocessor(self.card, one) for one in (self.model, graph))
        if isinstance(own, TensorsOnly) or isinstance(its, TensorsOnly):
            return isinstance(own, TensorsOnly) and isinstance(its, TensorsOnly)
        found = run(compiled_for(core, self.served(graph), "f32"), pictures.rows)
        for outputs, frame in zip(found, pictures.frames, strict=True):
            first, second = (
                post.answer([np.array(part) for part in outputs], None, frame) for post in (own, its)
            )
            if first != second:
                return False
        return True

    def _postprocessor(self, card: Card, graph: ov.Model) -> Postprocessor | TensorsOnly:
        ports = [_port(port) for port in self.served(graph).outputs]
        return postprocessor(card, ports, self.picture_input.resizer, output_evidence(graph), graph)


def _port(port: ov.Output) -> Port:
    shape = tuple(port.shape)[1:]
    return Port(tuple(names_of(port)), port.element_type.to_dtype(), shape)
