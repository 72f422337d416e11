"""Puts what the settings ask for into a model's graph: shape, layout, colours, mean and scale."""

from __future__ import annotations

import dataclasses
import json
import re

import openvino as ov
from openvino import Layout
from openvino.preprocess import ColorFormat, PrePostProcessor

from cpuserve.errors import ModelLoadError, last_line
from cpuserve.models.card import Card
from cpuserve.serving.graph import image_input, names_of
from cpuserve.serving.shape_setting import put_shape
from cpuserve.settings import Settings

__all__ = ["apply_graph_settings"]

_COLORS = {"RGB": ColorFormat.RGB, "BGR": ColorFormat.BGR}


def apply_graph_settings(model: ov.Model, card: Card, settings: Settings) -> tuple[ov.Model, Card]:
    """Put ``shape``, ``layout``, ``color_format``, ``mean`` and ``scale`` into a model's graph.

    They hold for tensors and pictures alike. What the metadata said of the same is replaced.

    Args:
        model: as it was read; it may be changed.
        card: its metadata.
        settings: as they hold for this model.

    Raises:
        ModelLoadError: the model does not allow it; the message names the setting.
    """
    if settings.shape:
        put_shape(model, settings.shape)
    mean, scale = _channels(settings.mean, "mean"), _channels(settings.scale, "scale")
    sent_layout, own_layout = _pair(_for_input(model, settings.layout, "layout"), "layout")
    sent_color, own_color = _pair(settings.color_format, "color_format")
    if own_layout:
        card = dataclasses.replace(card, layout=own_layout)
    if not any((mean, scale, own_layout, own_color)):
        return model, card
    source = image_input(model, card)
    if source is None:
        if mean or scale or own_color or sent_layout != own_layout:
            raise ModelLoadError("mean, scale, color_format and layout need a model with one picture input")
        return model, card
    steps = PrePostProcessor(model)
    entry = steps.input(0)
    entry.model().set_layout(Layout(source.layout))
    if sent_layout != own_layout:
        entry.tensor().set_layout(Layout(sent_layout))
        card = dataclasses.replace(card, layout=sent_layout)
    if own_color:
        card = dataclasses.replace(card, reverse_input_channels=sent_color == "RGB")
    if sent_color != own_color:
        try:
            entry.tensor().set_color_format(_COLORS[sent_color])
            entry.preprocess().convert_color(_COLORS[own_color])
        except KeyError as error:
            raise ModelLoadError(
                f"color_format {settings.color_format!r}: only RGB and BGR can be converted"
            ) from error
    if mean or scale:
        if not model.input(0).element_type.is_real():
            raise ModelLoadError(f"mean and scale need an input of floats, not {model.input(0).element_type}")
        entry.preprocess().mean(_per_channel(mean or [0.0], source.channels, "mean"))
        entry.preprocess().scale(_per_channel(scale or [1.0], source.channels, "scale"))
        card = dataclasses.replace(card, mean_values=(), scale_values=())
    try:
        return steps.build(), card
    except RuntimeError as error:
        raise ModelLoadError(
            f"layout, color_format, mean or scale do not fit the model: {last_line(error)}"
        ) from error


def _for_input(model: ov.Model, text: str, what: str) -> str:
    """The value for the only input, from a plain text or from JSON by input name."""
    if not text or (len(model.inputs) == 1 and not text.lstrip().startswith("{")):
        return text.strip()
    if len(model.inputs) != 1:
        raise ModelLoadError(f"{what} can be set for models with one input; this has {len(model.inputs)}")
    try:
        by_name = json.loads(text)
    except ValueError:
        raise ModelLoadError(f"{what} {text!r} is not JSON") from None
    names = names_of(model.input(0))
    if not isinstance(by_name, dict) or len(by_name) != 1 or not set(by_name) <= set(names):
        raise ModelLoadError(f"{what} {text!r} names other than the model's one input {names[0]!r}")
    return str(next(iter(by_name.values()))).strip()


def _pair(text: str, what: str) -> tuple[str, str]:
    """``SENT:MODEL``, or one word for both."""
    words = [word.strip().upper() for word in text.split(":")]
    if len(words) > 2 or any(not word.isalpha() for word in words if text):
        raise ModelLoadError(f"{what} {text!r} is neither one word nor two with a colon between")
    return words[0], words[-1]


def _channels(text: str, what: str) -> list[float]:
    words = [word for word in re.split(r"[\s,]+", text.strip(" []()")) if word]
    try:
        found = [float(word) for word in words]
    except ValueError:
        raise ModelLoadError(f"{what} {text!r} is neither a number nor a list such as [1,2,3]") from None
    if what == "scale" and 0 in found:
        raise ModelLoadError("scale divides: it cannot be 0")
    return found


def _per_channel(values: list[float], channels: int, what: str) -> list[float]:
    if len(values) not in (1, channels):
        raise ModelLoadError(f"{what} has {len(values)} numbers, the model {channels} channels")
    return values if len(values) == channels else values * channels
