"""Decides how pictures become the input of a model file: colour order, mean and scale, and says why."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass

import openvino as ov

from cpuserve.models.card import Card, listed_values
from cpuserve.models.exporter_metadata import ExporterMetadata
from cpuserve.serving.graph import image_input
from cpuserve.serving.input_quantisation import InputQuantisation, input_quantisation, scales_pixels

__all__ = ["PictureRecipe", "integer_recipe", "source_recipe"]

_MEAN = "--mean_values and --scale_values say otherwise"
_UNSAID = (
    "pixels stay 0 to 255, as nothing says mean and scale; most networks want others, such as --scale_values "
    "255 (0 to 1), --mean_values 127.5 --scale_values 127.5 (-1 to 1), or torchvision's --mean_values "
    "123.675,116.28,103.53 --scale_values 58.395,57.12,57.375"
)
_SCALED = "pixels stay 0 to 255: the graph itself scales them"
_BGR_TYPES = ("yolox", "fastestdet", "nanodet")  # their own code reads pictures with OpenCV
_RGB_FRAMEWORKS = {
    "tf": "TensorFlow",
    "tflite": "TensorFlow Lite",
    "pytorch": "PyTorch",
    "paddle": "PaddlePaddle",
}
_PRODUCERS = {  # the first words of an ONNX model's producer: the framework, and whether it takes RGB
    "pytorch": ("PyTorch", True),
    "tf2onnx": ("TensorFlow", True),
    "keras": ("Keras", True),
    "tflite": ("TensorFlow Lite", True),
    "paddle": ("PaddlePaddle", True),
    "caffe": ("Caffe", False),
    "onnx.quantize": ("onnxruntime's quantiser", True),  # it writes its name over the framework's
}
_RANGES = (  # real numbers that an input was quantised for, and what makes them of 0 to 255
    ((0.0, 255.0), (), ()),
    ((0.0, 1.0), (), (255.0,)),
    ((-1.0, 1.0), (127.5,), (127.5,)),
    ((-128.0, 127.0), (128.0,), ()),
    ((-2.118, 2.640), (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),  # ImageNet's, RGB
)
_NEAR = 0.03  # of the range
_STEPS = 2.0  # that rounded numbers may be off
_POOR = 0.4  # share of the input's range that pixels reach, or that of the pixels it holds


@dataclass(frozen=True)
class PictureRecipe:
    """How pictures become the input of a model.

    Attributes:
        card: the card, with the colour order, mean and scale.
        reasons: what was taken without the user saying it, and why, one sentence each.
    """

    card: Card
    reasons: tuple[str, ...] = ()


def source_recipe(
    model: ov.Model, card: Card, said: Collection[str], metadata: ExporterMetadata, model_type: str = ""
) -> PictureRecipe:
    """Completes the card of a model that came from a file of its framework.

    Args:
        model: its graph.
        card: what is said of it, by the user and by the exporter's metadata.
        said: names of the fields of ``card`` that somebody said.
        metadata: of the exporter.
        model_type: what the model answers, as judged by its outputs where the card does not say it.
    """
    channels = _picture_channels(model, card)
    if not channels:
        return PictureRecipe(card)
    reasons = []
    taken = [key for key in ("mean_values", "scale_values") if key in metadata.said]
    if taken:
        reasons.append(f"{' and '.join(taken)} are those of {metadata.title}; {_MEAN}")
    quantisation = input_quantisation(model.input(0))
    kind = model.input(0).element_type
    if not {"mean_values", "scale_values"} & {*said}:
        card, reason = _by_range(card, kind, quantisation)
        reasons.append(_SCALED if reason == _UNSAID and scales_pixels(model.input(0)) else reason)
    elif kind.is_integral_number() and quantisation is not None:
        card, reason = _through_quantisation(card, quantisation)
        reasons.append(reason)
    elif quantisation is not None:
        reasons.append(_poor(card, quantisation))
    if channels == 3:
        rgb, reason = _colour_order(card, said, metadata, card.model_type or model_type)
        card = dataclasses.replace(card, reverse_input_channels=rgb)
        reasons.insert(0, reason)
    return PictureRecipe(card, tuple(reason for reason in reasons if reason))


def _picture_channels(model: ov.Model, card: Card) -> int:
    """The channels of a picture input, 0 for none; its height and width may still be variable."""
    source = image_input(model, card)
    if source is not None:
        return source.channels
    shape = model.input(0).partial_shape
    if len(model.inputs) != 1 or shape.rank.is_dynamic or len(shape) != 4:
        return 0
    known = [shape[place].get_length() for place in (3, 1) if shape[place].is_static]
    open_sides = any(shape[place].is_dynamic for place in (1, 2, 3))
    return next((side for side in known if side in (1, 3)), 0) if open_sides else 0


def integer_recipe(model: ov.Model, card: Card) -> Card:
    """The card of an IR whose input holds signed bytes and whose card says nothing of mean and scale.

    Its pixels, 0 to 255, become -128 to 127. Other cards stay as they are.
    """
    if card.mean_values or card.scale_values or image_input(model, card) is None:
        return card
    if model.input(0).element_type != ov.Type.i8:
        return card
    return dataclasses.replace(card, mean_values=(128.0,))


def _colour_order(
    card: Card, said: Collection[str], metadata: ExporterMetadata, model_type: str
) -> tuple[bool, str]:
    """Whether the model takes RGB, and why; without a reason where the user said it."""
    key, rgb = "reverse_input_channels", card.reverse_input_channels
    if key in said and metadata.said.get(key) != rgb:
        return rgb, ""
    if key in said:
        why = f"{metadata.title} say so"
    else:
        rgb, why = _usual_order(card.mean_values, metadata, model_type)
    change = "--no-reverse_input_channels gives BGR" if rgb else "--reverse_input_channels gives RGB"
    return rgb, f"{'RGB' if rgb else 'BGR'}: {why}; {change}"


def _usual_order(means: tuple[float, ...], metadata: ExporterMetadata, model_type: str) -> tuple[bool, str]:
    kind = model_type.lower()
    if len(means) == 3 and means[0] != means[2]:
        return means[0] > means[2], "in photos red has the largest mean, and mean_values are in that order"
    if kind.startswith(_BGR_TYPES):
        return False, f"{model_type} models read pictures with OpenCV"
    if kind.startswith("yolo"):
        return True, f"{model_type} models take it"
    name, rgb = _habit(metadata)
    if name:
        return rgb, f"most models of {name} take it"
    return False, "nothing says the order, and OpenVINO's own models take it"


def _habit(metadata: ExporterMetadata) -> tuple[str, bool]:
    if metadata.framework in _RGB_FRAMEWORKS:
        return _RGB_FRAMEWORKS[metadata.framework], True
    producer = metadata.producer.lower()
    return next((habit for start, habit in _PRODUCERS.items() if producer.startswith(start)), ("", False))


def _by_range(card: Card, kind: ov.Type, quantisation: InputQuantisation | None) -> tuple[Card, str]:
    """Mean and scale where nobody said any: by the range that the input was quantised for."""
    if kind == ov.Type.i8:
        words = "its signed bytes are the pixels less 128"
        if quantisation is not None:
            low, high = quantisation.real_range
            words = f"the input is quantised, {words}, which stand for {low:.4g} to {high:.4g}"
        return dataclasses.replace(card, mean_values=(128.0,)), f"mean 128: {words}; {_MEAN}"
    if kind == ov.Type.u8:
        return card, ""
    if quantisation is None:
        if kind.is_real():
            return card, _UNSAID
        return card, ""
    low, high = quantisation.real_range
    if kind.is_integral_number():  # of 16 bits and more: one half may be unused
        low = 0.0
    for ends, mean, scale in _RANGES:
        near = _NEAR * (ends[1] - ends[0])
        if abs(low - ends[0]) <= near and abs(high - ends[1]) <= near:
            found = dataclasses.replace(card, mean_values=mean, scale_values=scale)
            if kind.is_integral_number():
                found = _real(found, quantisation)
            reason = f"{_said(mean, scale)}: the input is quantised for {low:.4g} to {high:.4g}; {_MEAN}"
            return found, reason
    return card, (
        f"pixels stay 0 to 255, but the input is quantised for {low:.4g} to {high:.4g}: give "
        "--mean_values and --scale_values"
    )


def _made_with(card: Card) -> str:
    used = card.mean_values or any(scale != 1 for scale in card.scale_values)
    return f"with {_said(card.mean_values, card.scale_values)}" if used else "as they are"


def _said(mean: tuple[float, ...], scale: tuple[float, ...]) -> str:
    words = [
        f"{name} {listed_values(values)}" for name, values in (("mean", mean), ("scale", scale)) if values
    ]
    return " and ".join(words) or "neither mean nor scale"


def _through_quantisation(card: Card, quantisation: InputQuantisation) -> tuple[Card, str]:
    """Mean and scale that make the integers, where those that are said make the real numbers.

    Both are usual. Those that are meant bring the pixels to the range of the integers.
    """
    real = _whole_range(_real(card, quantisation), quantisation)
    if _overlap(real, quantisation) <= _overlap(card, quantisation):
        return card, _poor(card, quantisation)
    low, high = quantisation.real_range
    words = (
        f"mean and scale make real numbers, of which the quantised input holds {low:.4g} to {high:.4g}: its "
        f"integers are the pixels {_made_with(real)}"
    )
    return real, _poor(real, quantisation) or words


def _poor(card: Card, quantisation: InputQuantisation) -> str:
    if _overlap(card, quantisation) > _POOR:
        return ""
    first, last = _ends(card)
    return (
        f"0 to 255 becomes {first:.4g} to {last:.4g}, but the input holds {quantisation.low:.4g} to "
        f"{quantisation.high:.4g}: check --mean_values and --scale_values"
    )


def _real(card: Card, quantisation: InputQuantisation) -> Card:
    """The card that makes the integers, of one that makes the real numbers they stand for.

    integer = (pixel - mean) / (scale * step) + zero = (pixel - (mean - zero * scale * step)) / (scale * step)
    """
    sizes = [len(card.mean_values), len(card.scale_values), len(quantisation.scale)]
    size = max(1, *sizes)
    mean, scale = _channels(card, size)
    step, zero = _spread(quantisation.scale, size, 1.0), _spread(quantisation.zero_point, size, 0.0)
    steps = [one * other for one, other in zip(scale, step, strict=True)]
    means = [one - other * step for one, other, step in zip(mean, zero, steps, strict=True)]
    return dataclasses.replace(card, mean_values=_rounded(means), scale_values=_rounded(steps))


def _whole_range(card: Card, quantisation: InputQuantisation) -> Card:
    """Bytes as they are, or less 128, where mean and scale bring 0 to 255 to the ends of a byte's range.

    The steps of the quantisation are rounded numbers: what they move by a step or two is not meant.
    """
    size = max(1, len(card.mean_values), len(card.scale_values))
    ends = [_ends_of(mean, scale) for mean, scale in zip(*_channels(card, size), strict=True)]
    if quantisation.high - quantisation.low != 255 or any(
        abs(first - quantisation.low) > _STEPS or abs(last - quantisation.high) > _STEPS
        for first, last in ends
    ):
        return card
    mean = (-quantisation.low,) if quantisation.low else ()
    return dataclasses.replace(card, mean_values=mean, scale_values=())


def _channels(card: Card, size: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return _spread(card.mean_values, size, 0.0), _spread(card.scale_values, size, 1.0)


def _ends_of(mean: float, scale: float) -> tuple[float, float]:
    return (0 - mean) / scale, (255 - mean) / scale


def _spread(values: tuple[float, ...], size: int, default: float) -> tuple[float, ...]:
    return values if len(values) == size else (values or (default,)) * size


def _rounded(values: list[float]) -> tuple[float, ...]:
    """Without what the 32-bit floats of a graph add: 128 and not 127.9999987."""
    return tuple(float(f"{value:.6g}") for value in values)


def _ends(card: Card) -> tuple[float, float]:
    """What becomes of the pixels 0 and 255, mean over the channels."""
    size = max(1, len(card.mean_values), len(card.scale_values))
    ends = [_ends_of(mean, scale) for mean, scale in zip(*_channels(card, size), strict=True)]
    means = [sum(found) / size for found in zip(*ends, strict=True)]
    return min(means), max(means)


def _overlap(card: Card, quantisation: InputQuantisation) -> float:
    """The share that the numbers made of pixels and those of the input have in common."""
    first, last = _ends(card)
    both = min(last, quantisation.high) - max(first, quantisation.low)
    either = max(last, quantisation.high) - min(first, quantisation.low)
    return max(0.0, both) / either
