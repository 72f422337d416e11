"""Makes tensors of scaled frames and answers of output tensors, for servers that know no scaled frames.

Triton and OpenVINO Model Server answer with the tensors of a model. What is around these comes from the same
model in the repository of this machine: colour order, mean and scale before, post-processing behind.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from cpuserve.errors import CpuserveError, RequestError
from cpuserve.models.find_model import find_model
from cpuserve.protocols.tensor import Tensor, datatype_of
from cpuserve.serving.decode import Pixels
from cpuserve.serving.engine import Array
from cpuserve.serving.graph import image_graph, image_input
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.picture_input import PictureSize
from cpuserve.serving.pipeline import Pipeline
from cpuserve.serving.postprocess import Segmenter, TensorsOnly
from cpuserve.settings import Settings
from cpuserve.video.replica_link import (
    FrameRefused,
    FrameRequest,
    FramesAnswered,
    ReplicaFailed,
    ServedModel,
    unreadable,
)

__all__ = ["LocalRecipe", "ReceivedOutput", "TensorRecipe"]

_EXACT = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}


@dataclass(frozen=True)
class ReceivedOutput:
    """An output as a server sent it.

    Attributes:
        name: of the output.
        datatype: the protocol's name of its element type.
        shape: as sent.
        data: its bytes.
    """

    name: str
    datatype: str
    shape: Sequence[int]
    data: memoryview


class TensorRecipe:
    """What is around the tensors of a model. Nothing of the model itself is kept.

    Args:
        pipeline: the model, loaded on this machine.

    Raises:
        CpuserveError: the model answers no pictures, or is not run by rows.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        if isinstance(pipeline.post, TensorsOnly):
            raise CpuserveError(f"model {pipeline.name} cannot answer frames: {pipeline.post.reason}")
        if not pipeline.batch.free or pipeline.cut is not None:
            raise CpuserveError(f"model {pipeline.name} is cut or has no batch: only cpuserve serves it")
        self._name, self._post, self._outputs = pipeline.name, pipeline.post, [*pipeline.outputs]
        self._input = pipeline.inputs[0]
        self._pictures = pipeline.picture_path().picture_input
        self._prepared = self._preparing(pipeline)

    def _preparing(self, pipeline: Pipeline) -> ov.CompiledModel:
        """The steps from pixels to the tensor, as the model's own graph for pictures has them."""
        shape = [-1, *self._input.row_shape]
        entry = ops.parameter(ov.PartialShape(shape), ov.Type(self._input.dtype), "image")
        entry.output(0).get_tensor().set_names({*self._input.names})
        nothing = ov.Model([ops.result(entry)], [entry], "tensor")
        source = image_input(nothing, pipeline.card)
        if source is None:
            raise CpuserveError(f"model {self._name} takes no pictures")
        graph = image_graph(nothing, source, pipeline.card)
        return openvino_core().compile_model(graph, "CPU", _EXACT)

    def served(self, metadata: Mapping[str, Any]) -> ServedModel:
        """The model that a server describes, if it is this one.

        Raises:
            ReplicaFailed: its input is another.
        """
        try:
            (entry,) = metadata["inputs"]
            shape, datatype = [int(side) for side in entry["shape"]], entry["datatype"]
            version = str(max(metadata.get("versions") or ["1"], key=int))
        except (KeyError, TypeError, ValueError) as error:
            raise ReplicaFailed(unreadable(error), lasting=True) from None
        own, own_type = [-1, *self._input.row_shape], datatype_of(self._input.dtype)
        if (shape[1:], datatype) != (own[1:], own_type):
            raise ReplicaFailed(
                f"its input is {datatype} {shape}, that of {self._name} on this machine {own_type} {own}",
                lasting=True,
            )
        resizer = self._pictures.resizer
        return ServedModel(
            *(
                self._name,
                version,
                "",
                str(entry["name"]),
                resizer.width,
                resizer.height,
                self._pictures.decoder.order,
            ),
            fit=resizer.resize_type,
            pad_value=resizer.pad_value,
            has_mask=isinstance(self._post, Segmenter),
            recipe=self,
        )

    def tensor(self, request: FrameRequest) -> Array:
        """The model's input [N, ...] for the pixels of a request.

        Raises:
            FrameRefused: they are JPEG, which such a server does not decode.
        """
        if request.payload != "raw":
            raise FrameRefused("the server takes tensors only: send pixels (--payload raw)")
        resizer = self._pictures.resizer
        shape = (len(request.contents), resizer.height, resizer.width, self._pictures.channels)
        pixels = np.frombuffer(b"".join(request.contents), np.uint8).reshape(shape)
        made: Array = self._prepared(pixels)[0]
        return made

    def answers(
        self, outputs: Sequence[ReceivedOutput], request: FrameRequest, version: str
    ) -> FramesAnswered:
        """The answers that a server's outputs mean.

        Raises:
            ReplicaFailed: they are not the model's.
            FrameRefused: nothing can be answered to what was asked.
        """
        count = len(request.contents)
        arrays = [self._array(outputs, place, count) for place in range(len(self._outputs))]
        size = PictureSize(request.width, request.height)
        segmenter = self._post if request.mask and isinstance(self._post, Segmenter) else None
        head = {"model": self._name, "version": version}
        answers, masks = [], []
        for place in range(count):
            row = [array[place] for array in arrays]
            try:
                answers.append({**head, **self._post.answer(row, request.topk, size)})
            except RequestError as error:
                raise FrameRefused(str(error)) from None
            if segmenter is not None:
                mask: Pixels = segmenter.mask(row, size)
                masks.append(mask)
        return FramesAnswered(answers, masks)

    def _array(self, outputs: Sequence[ReceivedOutput], place: int, count: int) -> Array:
        """One of the model's outputs [N, ...], by its name; by its place where names differ."""
        port = self._outputs[place]
        found = next((one for one in outputs if one.name in port.names), None)
        if found is None and len(outputs) == len(self._outputs):
            found = outputs[place]
        if found is None:
            raise ReplicaFailed(
                f"it has the outputs {', '.join(one.name for one in outputs)}, not {port.names[0]}",
                lasting=True,
            )
        try:
            array = Tensor(found.name, found.datatype, tuple(found.shape), found.data).array()
        except RequestError as error:
            raise ReplicaFailed(f"its output cannot be read: {error}") from None
        if array.dtype != port.dtype or not _fits(array.shape, (count, *port.row_shape)):
            raise ReplicaFailed(
                f"its output {found.name} is {found.datatype} {list(array.shape)}, that of {self._name} on "
                f"this machine {datatype_of(port.dtype)} {list(port.shape)}",
                lasting=True,
            )
        return array


def _fits(shape: Sequence[int], known: Sequence[int]) -> bool:
    """Whether a shape is the known one, where -1 is any side."""
    return len(shape) == len(known) and all(own in (-1, side) for side, own in zip(shape, known, strict=True))


class LocalRecipe:
    """The recipe of a model of this machine's repository, loaded when it is asked for first.

    Args:
        model: ``NAME`` or ``NAME/VERSION``.
        settings: the settings in force.
    """

    def __init__(self, model: str, settings: Settings) -> None:
        self._model, self._settings = model, settings
        self._lock = threading.Lock()
        self._found: TensorRecipe | None = None

    def __call__(self) -> TensorRecipe:
        """The recipe; it is loaded once.

        Raises:
            ReplicaFailed: the model is not here, or cannot be used.
        """
        with self._lock:
            if self._found is None:
                try:
                    file = find_model(self._model, self._settings.model_repository)
                    settings = replace(self._settings, result_cache_bytes=0, max_batch=1)
                    self._found = TensorRecipe(load_pipeline(openvino_core(), file, settings, 1))
                except CpuserveError as error:
                    raise ReplicaFailed(
                        "it takes tensors only, and this machine cannot prepare them without the model in "
                        f"its own repository (--model-repository): {error}",
                        lasting=True,
                    ) from None
            return self._found
