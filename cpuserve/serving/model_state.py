"""One version of one model in one worker, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass

from cpuserve.models.model_files import Signature
from cpuserve.models.repository import ModelFile
from cpuserve.serving.pipeline import Pipeline

__all__ = ["ModelState"]


@dataclass
class ModelState:
    """One version of one model and how far it is.

    Attributes:
        file: where it lies.
        signature: what its files looked like; a change means another model under the same version.
        state: "LOADING", "READY" or "UNAVAILABLE", Triton's words.
        reason: why it is unavailable, or, beside a pipeline, why newer files of it are not what is served.
        pipeline: what answers, once it is ready.
        changing: whether it is unavailable since its files changed while they were read.
    """

    file: ModelFile
    signature: Signature = ()
    state: str = "LOADING"
    reason: str = ""
    pipeline: Pipeline | None = None
    changing: bool = False
