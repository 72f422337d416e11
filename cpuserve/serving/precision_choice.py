"""Chooses the precision a model computes in: bf16 only where it is known to give the answers of f32."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import openvino as ov

from cpuserve.models.ov_properties import properties_of
from cpuserve.models.precision_record import PrecisionRecord
from cpuserve.settings import Settings

__all__ = ["PrecisionChoice", "choose_precision"]

_HINTS = ("INFERENCE_PRECISION_HINT", "EXECUTION_MODE_HINT")  # of the user's, they decide


@dataclass(frozen=True)
class PrecisionChoice:
    """A precision and why.

    Attributes:
        precision: to compile for: "f32", "bf16" or "f16"; "auto" where ``plugin_config`` decides.
        reason: for the log.
    """

    precision: Literal["auto", "f32", "bf16", "f16"]
    reason: str


def choose_precision(settings: Settings, model: ov.Model, capabilities: Collection[str]) -> PrecisionChoice:
    """The precision for a model.

    ``precision: auto`` takes bf16 where the CPU computes in it and the model's record says that its answers
    agree with those in f32; else f32, which gives the answers of the original framework.

    Args:
        settings: as they hold for the model.
        model: as it was read, with its record.
        capabilities: OpenVINO's OPTIMIZATION_CAPABILITIES of the CPU.

    Raises:
        ModelLoadError: the record is damaged.
        UsageError: ``plugin_config`` is not a JSON object.
    """
    asked = settings.precision
    if asked == "f32":
        return PrecisionChoice(asked, "precision is f32")
    if asked != "auto":
        record = PrecisionRecord.read(model, asked)
        known = str(record) if record else f"what {asked} changes in its answers is not recorded"
        return PrecisionChoice(asked, f"precision is {asked}; {known}")
    given, _ = properties_of(settings.plugin_config)
    if named := [name for name in _HINTS if name in given]:
        return PrecisionChoice("auto", f"plugin_config has {named[0]}")
    if "BF16" not in capabilities:
        return PrecisionChoice("f32", "this CPU computes in nothing less")
    record = PrecisionRecord.read(model, "bf16")
    if record is None:
        return PrecisionChoice(
            "f32",
            "what bf16 changes in its answers is not recorded: `cpuserve convert --images` records it on a "
            "CPU with bf16, and --precision bf16 takes it without",
        )
    if record.agreement >= 1 - settings.precision_limit:
        return PrecisionChoice("bf16", str(record))
    return PrecisionChoice("f32", f"{record}, and precision_limit is {settings.precision_limit:g}")
