"""Uses the post-processing of Model API's wrappers on outputs that are there already.

Imported only for a model that needs it: it takes a moment, and the extra ``vision``.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import openvino as ov

from cpuserve.models.card import Card
from cpuserve.serving.engine import Array, Port
from cpuserve.serving.postprocess.detection import Boxes
from cpuserve.serving.postprocess.keypoints import Points

__all__ = ["BoxesOf", "PointsOf"]


@contextmanager
def _absent(module: str) -> Iterator[None]:
    """Let ``import module`` fail: for one of its adapters Model API loads ONNX Runtime, and that PyTorch."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # what the import system takes for "not there"
    try:
        yield
    finally:
        del sys.modules[module]


with _absent("onnx"):
    from model_api.adapters.inference_adapter import Metadata
    from model_api.models import Model
    from model_api.models.parameters import ParameterRegistry

# Wrappers answer in whole pixels. They are told that the picture is the input enlarged so many times, so that
# whole pixels are fractions of the input's; the way back to the picture is the resizer's, crops included.
_FINE = 64
_NOT_ASKED = {*ParameterRegistry.IMAGE_PREPROCESSING, *ParameterRegistry.IMAGE_RESIZE, "path_to_labels"}
_CARD = ("confidence_threshold", "iou_threshold", "nms_execute", "agnostic_nms", "nms_max_predictions")
_ABSENT = "Cannot get runtime attribute. Path to runtime attribute is incorrect."  # it looks for the words
# A wrapper class changes the defaults of parameters that all classes share. They are put back before a class
# is asked, and what it then says is written into the instance.
_SHARED = {
    id(parameter): (parameter, parameter.default_value)
    for name, group in vars(ParameterRegistry).items()
    if name.isupper()
    for parameter in group.values()
}


class _Described:
    """The inference adapter that a wrapper asks for shapes and metadata."""

    def __init__(self, model: ov.Model | None, outputs: Sequence[Port], width: int, height: int) -> None:
        self._model = model
        self._outputs = outputs
        self._input_shape = [1, 3, height, width]

    def get_input_layers(self) -> dict[str, Any]:
        return {"image": Metadata({"image"}, self._input_shape, "NCHW", "u8")}

    def get_output_layers(self) -> dict[str, Any]:
        found = {}
        for place, port in enumerate(self._outputs):
            kind = ov.Type(port.dtype).get_type_name()
            found[port.names[0]] = Metadata(set(port.names), [1, *port.row_shape], precision=kind)
            if self._model is not None and len(self._model.outputs) == len(self._outputs):
                node = self._model.output(place).get_node().input_value(0).get_node()
                found[port.names[0]].type = node.get_type_name()
                found[port.names[0]].meta = node.get_attributes()
        return found

    def operations_by_type(self, _kind: str) -> dict[str, Any]:
        return {}  # an output's own attributes are in `get_output_layers`

    def get_rt_info(self, path: list[str]) -> ov.OVAny:
        model = self._model
        if model is None or path[-1] in _NOT_ASKED or not model.has_rt_info(path):
            raise RuntimeError(_ABSENT)
        found = model.get_rt_info(path)
        if found.value == "":  # how the card marks a key that is not there
            raise RuntimeError(_ABSENT)
        return found

    def embed_preprocessing(self, **_: Any) -> None:
        """Nothing: the graph has it already."""


def _wrapper(kind: Any, described: _Described, wanted: Mapping[str, Any]) -> Any:
    """A wrapper that depends on nothing but what it is given."""
    for parameter, value in _SHARED.values():
        parameter.default_value = value
    parameters = kind.parameters()
    if kind.__model__ == "YOLOV4":  # it reads two of its parameters where it does not keep them
        own = {name: _listed(described, parameters[name], name) for name in ("anchors", "masks")}
        kind = type(kind.__name__, (kind,), own)
    made = kind(described, {name: value for name, value in wanted.items() if name in parameters})
    for name, parameter in parameters.items():
        if not hasattr(made, f"_{name}"):
            setattr(made, f"_{name}", parameter.default_value)
    return made


def _listed(described: _Described, parameter: Any, name: str) -> Any:
    try:
        return parameter.from_str(described.get_rt_info(["model_info", name]).astype(str))
    except RuntimeError:
        return []


class _Head(ABC):
    """A wrapper, and how it is called.

    Args:
        kind: the wrapper's name, in any case ("SSD", "yolov8").
        model: whose metadata configure the wrapper where the card is silent; None when there is none.
        card: the metadata.
        outputs: of the model.
        width: of its input, pixels.
        height: of its input, pixels.

    Raises:
        ValueError: the wrapper does not take the outputs.
    """

    def __init__(
        self, kind: str, model: ov.Model | None, card: Card, outputs: Sequence[Port], width: int, height: int
    ) -> None:
        self._names = [port.names[0] for port in outputs]
        self._meta: dict[str, Any] = self._told(width, height)
        wanted = {name: getattr(card, name) for name in _CARD}
        wanted |= {"labels": list(card.labels) or None, "resize_type": "standard"}
        described = _Described(model, outputs, width, height)
        try:
            self._wrapper = _wrapper(Model.get_model_class(kind), described, wanted)
            self([np.zeros(port.row_shape, port.dtype) for port in outputs])  # what does not fit shows now
        except Exception as error:  # wrappers raise anything when outputs do not fit
            shapes = ", ".join(f"{port.names[0]} {[1, *port.row_shape]}" for port in outputs)
            raise ValueError(f"Model API's {kind} does not take the outputs {shapes}: {error}") from error

    @staticmethod
    @abstractmethod
    def _told(width: int, height: int) -> dict[str, Any]:
        """What the wrapper is told about the picture."""

    @abstractmethod
    def __call__(self, outputs: Sequence[Array]) -> NamedTuple:
        """What is found in the outputs of one row."""

    def _result(self, outputs: Sequence[Array]) -> Any:
        named = {name: output[None] for name, output in zip(self._names, outputs, strict=True)}
        return self._wrapper.postprocess(named, self._meta)


class BoxesOf(_Head):
    """A detection wrapper's boxes."""

    @staticmethod
    def _told(width: int, height: int) -> dict[str, Any]:
        large = (height * _FINE, width * _FINE, 3)
        return {"original_shape": large, "resized_shape": (width, height, 3), "scale": 1 / _FINE}

    def __call__(self, outputs: Sequence[Array]) -> Boxes:
        """The boxes of one row; the outputs may be overwritten."""
        found = self._result(outputs)
        corners = np.asarray(found.bboxes, np.float32).reshape(-1, 4) / _FINE
        return Boxes(corners, np.asarray(found.scores, np.float32), np.asarray(found.labels, np.int32))


class PointsOf(_Head):
    """The keypoint wrapper's points.

    It reads two outputs [K, 2 * width] and [K, 2 * height], the distributions of each keypoint over x and y
    (SimCC, arXiv:2107.03332) in half pixels of the input.
    """

    def __init__(
        self, kind: str, model: ov.Model | None, card: Card, outputs: Sequence[Port], width: int, height: int
    ) -> None:
        shapes = [port.row_shape for port in outputs]
        if [shape[1:] for shape in shapes] != [(2 * width,), (2 * height,)] or shapes[0][0] != shapes[1][0]:
            raise ValueError(
                f"Model API's {kind} has the outputs [N, K, {2 * width}] and [N, K, {2 * height}], "
                f"not {', '.join(str([1, *shape]) for shape in shapes)}"
            )
        super().__init__(kind, model, card, outputs, width, height)

    @staticmethod
    def _told(_width: int, _height: int) -> dict[str, Any]:
        return {"resize_info": {"kp_scale_h": 1.0, "kp_scale_w": 1.0, "pad_left": 0, "pad_top": 0}}

    def __call__(self, outputs: Sequence[Array]) -> Points:
        """The points of one row."""
        found = self._result(outputs)
        places = np.asarray(found.keypoints, np.float32).reshape(-1, 2)
        return Points(places, np.asarray(found.scores, np.float32).reshape(-1))
