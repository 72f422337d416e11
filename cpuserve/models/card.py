"""Reads and writes the card of a model: how its pictures are prepared and what its outputs mean."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from cpuserve.errors import ModelLoadError

if TYPE_CHECKING:
    import openvino as ov

__all__ = ["MODEL_INFO", "OWN", "Card", "listed_values"]

MODEL_INFO = "model_info"  # the section of `rt_info` that Model API and its exporters use
OWN = "cpuserve"  # the section for keys that Model API does not have

_OWN_KEYS = (
    *("decode", "precision", "licence", "source", "description", "rows", "batch_axes"),
    *("scores", "scores_axis", "evidence", "box_format", "box_unit"),
)
_CHOICES = {
    "resize_type": ("standard", "crop", "fit_to_window", "fit_to_window_letterbox"),
    "interpolation_mode": ("LINEAR", "CUBIC", "NEAREST"),
    "decode": ("", "exact", "fast"),
    "precision": ("", "auto", "f32", "bf16", "f16"),
    "rows": ("", "independent", "mixed"),
    "scores": ("", "softmax", "sigmoid", "argmax", "logits"),
    "box_format": ("", "xyxy", "yxyx", "xywh", "cxcywh"),
    "box_unit": ("", "pixels", "share"),
}
_TRUE, _FALSE = ("true", "yes", "1", "on"), ("false", "no", "0", "off")


@dataclass(frozen=True)
class Card:
    """How to prepare pictures for a model and how to read its outputs, as stored in the IR.

    Attributes:
        model_type: what the model answers, in Model API's words ("Classification", "Segmentation").
        labels: the name of each class, in the order of the output.
        layout: layout of the input ("NHWC", "NCHW"), empty when the graph must be asked.
        resize_type: how a picture is brought to the input size.
        interpolation_mode: how the resize fills in pixels.
        pad_value: grey of the border of the letterbox resizes, 0-255.
        mean_values: subtracted, in 0-255 units and the model's channel order; one, or one a channel.
        scale_values: divided by after the mean, same units and order.
        reverse_input_channels: True when the model wants RGB; False when it wants BGR.
        input_dtype: element type of the model's input ("u8", "f32", ...), empty when the graph must be asked.
        embedded_processing: the graph itself resizes and normalises.
        multilabel: several classes may apply, each with a probability of its own; None: the graph decides.
        output_raw_scores: kept for Model API, which then answers all scores too.
        confidence_threshold: answers below it are left out; None when the exporter did not say.
        iou_threshold: of two boxes of a class that overlap by more the better stays; None as above.
        nms_execute: boxes still overlap and must be thinned out; None as above: the model_type decides.
        agnostic_nms: boxes of different classes are thinned out too; None likewise.
        nms_max_predictions: most boxes that stay; None likewise.
        topk: number of classes in an answer; None when the exporter did not say.
        decode: "exact" or "fast" decoding of JPEG pictures, empty for the server's setting.
        precision: what to compile for ("auto", "f32", "bf16", "f16"), empty for the server's setting.
        scores: what the first output holds, "softmax", "sigmoid", "argmax", "logits"; empty: asks the graph.
        scores_axis: the dimension that a softmax or argmax goes along, counted from the end; None: not known.
        evidence: why the model type is what it is, when it was judged and not said.
        box_format: order of a box's numbers, "xyxy", "yxyx", "xywh" or "cxcywh"; empty: the model type's.
        box_unit: "pixels" of the input or "share" of it; empty: the numbers are asked.
        licence: licence of the weights.
        source: where the weights came from.
        description: one sentence for people.
        rows: "independent" where `convert` saw that a row's answer is the same beside any other rows, "mixed"
            where it is not; empty where nobody looked.
        batch_axes: the axis of the batch in each input and then in each output, -1 for a port without one;
            empty where nobody looked.
    """

    model_type: str = ""
    labels: tuple[str, ...] = ()
    layout: str = ""
    resize_type: str = "standard"
    interpolation_mode: str = "LINEAR"
    pad_value: int = 0
    mean_values: tuple[float, ...] = ()
    scale_values: tuple[float, ...] = ()
    reverse_input_channels: bool = False
    input_dtype: str = ""
    embedded_processing: bool = False
    multilabel: bool | None = None
    output_raw_scores: bool = False
    confidence_threshold: float | None = None
    iou_threshold: float | None = None
    nms_execute: bool | None = None
    agnostic_nms: bool | None = None
    nms_max_predictions: int | None = None
    topk: int | None = None
    decode: str = ""
    precision: str = ""
    scores: str = ""
    scores_axis: int | None = None
    evidence: str = ""
    box_format: str = ""
    box_unit: str = ""
    licence: str = ""
    source: str = ""
    description: str = ""
    rows: str = ""
    batch_axes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for key, allowed in _CHOICES.items():
            if getattr(self, key) not in allowed:
                raise _bad(key, getattr(self, key), "one of " + ", ".join(word or '""' for word in allowed))
        if not 0 <= self.pad_value <= 255:
            raise _bad("pad_value", self.pad_value, "0 to 255")
        if not all(math.isfinite(value) for value in self.mean_values):
            raise _bad("mean_values", self.mean_values, "finite numbers")
        if not all(math.isfinite(value) and value != 0 for value in self.scale_values):
            raise _bad("scale_values", self.scale_values, "finite numbers other than 0")
        if self.topk is not None and self.topk < 1:
            raise _bad("topk", self.topk, "at least 1")
        if self.confidence_threshold is not None and not math.isfinite(self.confidence_threshold):
            raise _bad("confidence_threshold", self.confidence_threshold, "a finite number")
        if self.iou_threshold is not None and not 0 <= self.iou_threshold <= 1:
            raise _bad("iou_threshold", self.iou_threshold, "0 to 1")
        if self.nms_max_predictions is not None and self.nms_max_predictions < 1:
            raise _bad("nms_max_predictions", self.nms_max_predictions, "at least 1")

    @classmethod
    def read(cls, model: ov.Model) -> Card:
        """Reads the card of a model, whoever exported it.

        Raises:
            ModelLoadError: a key holds a value that cannot be meant.
        """
        return cls.from_sections(_section(model, MODEL_INFO), _section(model, OWN))

    @classmethod
    def from_sections(cls, model_info: Mapping[str, str], own: Mapping[str, str]) -> Card:
        """Reads the card from the texts of its two sections; missing or empty keys get defaults.

        Raises:
            ModelLoadError: a key holds a value that cannot be meant.
        """
        found: dict[str, Any] = {}
        for key, parse in _PARSERS.items():
            text = (own if key in _OWN_KEYS else model_info).get(key, "").strip()
            if text:
                found[key] = parse(key, text)
        if own.get("labels", "").strip():
            found["labels"] = _exact_labels("labels", own["labels"])
        return cls(**found)

    def pixels(self, channels: int) -> str:
        """What becomes of a pixel, as in ``RGB, (value - 127.5) / 127.5``.

        Args:
            channels: of the picture input; of a grey one the colour order means nothing.
        """
        order = "grey" if channels == 1 else "RGB" if self.reverse_input_channels else "BGR"
        mean, scale = any(self.mean_values), any(scale != 1 for scale in self.scale_values)
        text = f"value - {listed_values(self.mean_values)}" if mean else "value" if scale else "0 to 255"
        if scale:
            text = f"{f'({text})' if mean else text} / {listed_values(self.scale_values)}"
        return f"{order}, {text}"

    def write(self, model: ov.Model) -> None:
        """Adds the card to a model; `ov.save_model` then writes it into the XML of the IR."""
        for field in fields(self):
            section = OWN if field.name in _OWN_KEYS else MODEL_INFO
            _put(model, [section, field.name], _text(getattr(self, field.name)))
        _put(model, [OWN, "labels"], json.dumps(self.labels, ensure_ascii=False) if self.labels else "")


def listed_values(values: tuple[float, ...]) -> str:
    """A number for each channel in brackets, or the one number that all of them have."""
    words = [f"{value:.6g}" for value in values]
    return words[0] if len({*words}) == 1 else f"[{' '.join(words)}]"


def _section(model: ov.Model, name: str) -> dict[str, str]:
    if not model.has_rt_info([name]):
        return {}
    content: object = model.get_rt_info([name]).value
    if not isinstance(content, Mapping):
        return {}
    return {str(key): _text(value) for key, value in content.items() if not isinstance(value, Mapping)}


def _put(model: ov.Model, path: list[str], text: str) -> None:
    # Keys cannot be deleted, so an existing one is emptied: to `read` empty means absent.
    if text or model.has_rt_info(path):
        model.set_rt_info(text, path)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Iterable):
        return " ".join(re.sub(r"\s+", "_", _text(item)) or "_" for item in value)
    if isinstance(value, float):
        return f"{value:.9g}"
    return str(value)


def _bad(key: str, value: object, wanted: str) -> ModelLoadError:
    section = OWN if key in _OWN_KEYS else MODEL_INFO
    return ModelLoadError(f"rt_info/{section}/{key} is {value!r}; it must be {wanted}")


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\s,;]+", text.strip("[](){} ")) if word]


def _string(_key: str, text: str) -> str:
    return text


def _lower(_key: str, text: str) -> str:
    return text.lower()


def _upper(_key: str, text: str) -> str:
    return text.upper()


def _boolean(key: str, text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise _bad(key, text, "True or False")


def _number(key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _bad(key, text, "a number") from None


def _whole(key: str, text: str) -> int:
    number = _number(key, text)
    if not number.is_integer():
        raise _bad(key, text, "a whole number")
    return int(number)


def _numbers(key: str, text: str) -> tuple[float, ...]:
    return tuple(_number(key, word) for word in _words(text))


def _axes(key: str, text: str) -> tuple[int, ...]:
    return tuple(_whole(key, word) for word in _words(text))


def _labels(_key: str, text: str) -> tuple[str, ...]:
    # Spaces separate, and `_` stands for a space. Some exporters separate by commas; a comma glued to an
    # underscore ("tench,_Tinca_tinca") belongs to the label.
    by_comma = "," in text and ",_" not in text
    words = text.split(",") if by_comma else text.split()
    return tuple(word.replace("_", " ").strip() for word in words)


def _exact_labels(key: str, text: str) -> tuple[str, ...]:
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelLoadError(f"rt_info/{OWN}/{key} is {text[:80]!r}; it must be a JSON list of strings")
    return tuple(names)


_PARSERS: dict[str, Callable[[str, str], Any]] = {
    "model_type": _string,
    "labels": _labels,
    "layout": _string,
    "resize_type": _lower,
    "interpolation_mode": _upper,
    "pad_value": _whole,
    "mean_values": _numbers,
    "scale_values": _numbers,
    "reverse_input_channels": _boolean,
    "input_dtype": _lower,
    "embedded_processing": _boolean,
    "multilabel": _boolean,
    "output_raw_scores": _boolean,
    "confidence_threshold": _number,
    "iou_threshold": _number,
    "nms_execute": _boolean,
    "agnostic_nms": _boolean,
    "nms_max_predictions": _whole,
    "topk": _whole,
    "decode": _lower,
    "precision": _lower,
    "scores": _lower,
    "scores_axis": _whole,
    "evidence": _string,
    "box_format": _lower,
    "box_unit": _lower,
    "licence": _string,
    "source": _string,
    "description": _string,
    "rows": _lower,
    "batch_axes": _axes,
}
