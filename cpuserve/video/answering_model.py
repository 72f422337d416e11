"""What answers scaled frames: a model on this machine, or its replicas elsewhere."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Protocol

from cpuserve.serving.decode import Pixels
from cpuserve.serving.postprocess import Answer
from cpuserve.video.frame_model import SeenFrame
from cpuserve.video.scale import Scale

__all__ = ["AnsweringModel"]


class AnsweringModel(Protocol):
    """The face that `FrameModel` and `Replicas` share.

    Attributes:
        name: of the model.
        version: of the model.
        checksum: of its files.
        scale: what frames are scaled to before they are submitted.
        in_flight: frames without an answer that keep it busy.
    """

    name: str
    version: int
    checksum: str
    scale: Scale
    in_flight: int

    def submit(self, pixels: Pixels, width: int, height: int, *, topk: int | None = None) -> Future[Answer]:
        """Answer a frame of width x height."""

    def submit_seen(
        self, pixels: Pixels, width: int, height: int, *, topk: int | None = None
    ) -> Future[SeenFrame]:
        """As `submit`, with the mask of a segmentation."""

    def close(self) -> None:
        """Take no more frames."""
