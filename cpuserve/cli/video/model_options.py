"""The options that choose a model for video and the settings it runs with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cpuserve.cli.foreign_words import SuggestingChoice
from cpuserve.cli.number_range import NumberRange
from cpuserve.cli.options import settings_from

if TYPE_CHECKING:
    from cpuserve.settings import Settings

__all__ = ["MODEL_SETTINGS", "live_timeout_option", "model_option", "model_settings", "scaler_option"]

MODEL_SETTINGS = (
    *("model_repository", "preset", "precision", "streams", "inference_threads", "max_batch"),
    *("workers", "cores_per_worker", "node_id", "max_pixels", "allow_unvalidated"),
)
"""The settings of commands that run a model on frames."""

model_option = click.option(
    "--model", required=True, metavar="NAME[/VERSION]", help="Model of the repository, or its path."
)
"""``--model``."""

live_timeout_option = click.option(
    "--live-timeout",
    "live_timeout_s",
    type=NumberRange(0.1, 86_400),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Open a live source anew when nothing has come for so long.",
)
"""``--live-timeout``."""

scaler_option = click.option(
    "--scaler",
    type=SuggestingChoice(["bilinear", "bicubic", "area", "point"]),
    default="bilinear",
    show_default=True,
    help="How frames are scaled to the model's input.",
)
"""``--scaler``."""


def model_settings(model: str, config: Path | None, flags: dict[str, Any]) -> Settings:
    """The settings for a model, with those of its preset where nothing else sets them.

    Args:
        model: as `cpuserve.models.find_model.find_model` takes it.
        config: the settings file.
        flags: the options that were given.

    Raises:
        UnknownModel: there is no such model.
        UsageError: a value is wrong.
    """
    from cpuserve.models.find_model import find_model  # noqa: PLC0415
    from cpuserve.tune.preset_choice import apply_presets  # noqa: PLC0415

    settings = settings_from(config, flags)
    file = find_model(model, settings.model_repository)
    if not file.xml.is_relative_to(settings.model_repository.resolve()):
        return settings
    return replace(apply_presets(replace(settings, only=(file.name,))).settings, only=())
