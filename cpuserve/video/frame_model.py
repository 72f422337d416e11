"""A model that answers frames which are already scaled to its input, from any thread, on several cores."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from time import thread_time_ns
from typing import Any, Self, TypeVar

from cpuserve.errors import CpuserveError
from cpuserve.machine.budget import Budget
from cpuserve.machine.process_controls import block_signals, show_thread_name
from cpuserve.models.find_model import find_model
from cpuserve.serving.decode import Pixels
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.picture_input import PictureInput, ScaledPicture
from cpuserve.serving.pipeline import Pipeline
from cpuserve.serving.postprocess import Answer, Segmenter, TensorsOnly
from cpuserve.serving.request import Request
from cpuserve.settings import Settings
from cpuserve.video.scale import Scale, Scaler

__all__ = ["FrameModel", "SeenFrame", "ThreadCosts", "open_frame_model", "scale_of"]

_AHEAD = 2  # frames in flight a thread: one runs, one waits with its pixels

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class SeenFrame:
    """What a model finds in a frame.

    Attributes:
        answer: as of ``/predictions/MODEL``, places in pixels of the whole frame.
        mask: the class of each pixel of the whole frame, u8 [height, width], of a segmentation; else None.
    """

    answer: Answer
    mask: Pixels | None = None


@dataclass
class ThreadCosts:
    """What the answered frames took.

    Attributes:
        frames: answered.
        thread_ns: CPU time of the threads that answered them; that of OpenVINO's own threads is not in it.
        stages_ns: wall time by stage of `cpuserve.serving.stages.COUNTED_STAGES`.
    """

    frames: int
    thread_ns: int
    stages_ns: dict[str, int]


class FrameModel:
    """Answers scaled frames with one loaded model. A context manager; several threads may use it.

    ``frame.scaled(model.scale)`` makes the pixels that `submit` takes, for a frame of any size. The answer is
    that of the server to the same picture, but for what swscale scales otherwise than the server's resizer.

    Attributes:
        name: of the model.
        version: of the model.
        checksum: SHA-256 over the model's files.
        labels: names of its classes; empty where it has none.
        scale: what frames are scaled to: size, colours, crop or padding.
        streams: how many frames are inferred at once.
        in_flight: most frames that are submitted and not answered yet; `submit` waits where there are more.

    Args:
        pipeline: the loaded model.
        threads: how many threads answer; as many frames run at once where the engine has streams for them.
        scaler: of swscale.
        in_flight: see there; None is two a thread.

    Raises:
        CpuserveError: the model takes no pictures, or answers tensors only.
    """

    def __init__(
        self, pipeline: Pipeline, threads: int, scaler: Scaler = "bilinear", in_flight: int | None = None
    ) -> None:
        if isinstance(pipeline.post, TensorsOnly):
            raise CpuserveError(f"model {pipeline.name} cannot answer frames: {pipeline.post.reason}")
        self.name, self.version, self.checksum = pipeline.name, pipeline.version, pipeline.checksum
        self.labels = pipeline.card.labels
        self.scale = scale_of(pipeline.picture_path().picture_input, scaler)
        self.streams = pipeline.batcher.engine.streams
        self.in_flight = in_flight or threads * _AHEAD
        self._pipeline = pipeline
        self._costs = ThreadCosts(0, 0, dict.fromkeys(Request().stages_ns, 0))
        self._counting = threading.Lock()
        self._free = threading.Semaphore(self.in_flight)
        self._threads = ThreadPoolExecutor(threads, "frames", initializer=_prepare_thread)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def mask_labels(self) -> Sequence[str] | None:
        """Names of the classes in the masks of a segmentation, by class; None for any other model."""
        post = self._pipeline.post
        return post.labels if isinstance(post, Segmenter) else None

    def submit(self, pixels: Pixels, width: int, height: int, *, topk: int | None = None) -> Future[Answer]:
        """Answer a frame as soon as a thread is free; waits while `in_flight` frames are under way.

        Args:
            pixels: the frame, scaled by `scale`; they may be overwritten once the answer is there.
            width: of the whole frame.
            height: of the same.
            topk: number of classes wanted; None for the model's own.

        Returns:
            The answer, or the `RequestError` that refused the pixels, or what the model's code raised.

        Raises:
            CpuserveError: the model is closed.
        """
        return self._submit(lambda: self._look(pixels, width, height, topk, mask=False).answer)

    def submit_seen(
        self, pixels: Pixels, width: int, height: int, *, topk: int | None = None
    ) -> Future[SeenFrame]:
        """As `submit`, with the mask of a segmentation."""
        return self._submit(lambda: self._look(pixels, width, height, topk, mask=True))

    def answer(self, pixels: Pixels, width: int, height: int, *, topk: int | None = None) -> Answer:
        """As `submit`, and wait for the answer."""
        return self.submit(pixels, width, height, topk=topk).result()

    def costs(self) -> ThreadCosts:
        """What was answered so far and what it took."""
        with self._counting:
            return replace(self._costs, stages_ns={**self._costs.stages_ns})

    def close(self) -> None:
        """Answer what was submitted, then end the threads. The model's memory is freed with this object."""
        self._threads.shutdown()

    def _submit(self, look: Callable[[], _Found]) -> Future[_Found]:
        self._free.acquire()
        try:
            future = self._threads.submit(look)
        except RuntimeError:
            self._free.release()
            raise CpuserveError(f"model {self.name} is closed: open it again") from None
        future.add_done_callback(lambda _: self._free.release())
        return future

    def _look(self, pixels: Pixels, width: int, height: int, topk: int | None, *, mask: bool) -> SeenFrame:
        began, request = thread_time_ns(), Request()
        found, classes = self._pipeline.see(ScaledPicture(pixels, width, height), request, topk, mask=mask)
        answer = {"model": self.name, "version": str(self.version), **found}
        spent = thread_time_ns() - began
        with self._counting:
            self._costs.frames += 1
            self._costs.thread_ns += spent
            for stage, ns in request.stages_ns.items():
                self._costs.stages_ns[stage] += ns
        return SeenFrame(answer, classes)


def open_frame_model(
    model: str | Path,
    settings: Settings,
    *,
    threads: int | None = None,
    scaler: Scaler = "bilinear",
    in_flight: int | None = None,
) -> FrameModel:
    """Load a model to answer frames on the cores this process may use.

    Args:
        model: ``NAME`` or ``NAME/VERSION`` of the repository, or the path of a file or directory.
        settings: the settings in force; what they say of streams, threads and precision holds.
        threads: compute threads; None for as many CPUs as this process may use.
        scaler: of swscale.
        in_flight: most frames that are submitted and not answered yet; None is two a thread.

    Raises:
        UnknownModel: there is no such model.
        RepositoryError: it cannot be read, or OpenVINO refuses it.
        CpuserveError: it takes no pictures, or answers tensors only.
        UsageError: a setting's value is wrong.
    """
    file = find_model(model, settings.model_repository)
    threads = threads or settings.threads or Budget.read().effective
    # frames differ, and rows of pixels are never looked up
    pipeline = load_pipeline(openvino_core(), file, replace(settings, result_cache_bytes=0), threads)
    engine = pipeline.batcher.engine
    at_once = engine.streams if settings.max_batch is None else max(engine.streams, settings.max_batch)
    return FrameModel(pipeline, at_once, scaler, in_flight)


def scale_of(picture_input: PictureInput, scaler: Scaler = "bilinear") -> Scale:
    """What frames are scaled to for a model's picture input."""
    resizer = picture_input.resizer
    return Scale(
        resizer.width,
        resizer.height,
        picture_input.decoder.order,
        scaler,
        fit=resizer.resize_type,
        pad_value=resizer.pad_value,
    )


def _prepare_thread(*_: Any) -> None:
    block_signals()
    show_thread_name()
