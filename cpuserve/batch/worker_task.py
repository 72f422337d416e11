"""What a worker of a job does: loads the model, and makes rows of units of work."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from cpuserve.batch.remote_files import read_remote
from cpuserve.batch.sources import is_remote, local_path
from cpuserve.batch.work_units import WorkUnit
from cpuserve.errors import CpuserveError, VideoError
from cpuserve.machine.files import text_of_path
from cpuserve.settings import Settings
from cpuserve.video.scale import Scaler

if TYPE_CHECKING:
    from cpuserve.serving.pipeline import Pipeline
    from cpuserve.video.video_file import VideoFile

__all__ = ["BatchTask", "LoadedModel", "UnitNews", "UnitRow"]

_FLUSH_S = 0.25  # rows are passed on after so long at the latest, so that few are made twice
_FLUSH_ROWS = 64


class LoadedModel(NamedTuple):
    """The model that a worker has loaded.

    Attributes:
        name: of the model.
        version: of it.
        checksum: of its files.
        precision: that it computes in.
    """

    name: str
    version: int
    checksum: str
    precision: str


class UnitRow(NamedTuple):
    """A row.

    Attributes:
        place: of the picture in its unit, or number of the frame.
        row: a JSON object.
    """

    place: int
    row: bytes


@dataclass
class UnitNews:
    """What a worker says of a unit.

    Attributes:
        unit: its number.
        rows: that are made, each once.
        ended: whether these were the last.
    """

    unit: int
    rows: list[UnitRow] = field(default_factory=list)
    ended: bool = False


@dataclass(frozen=True)
class BatchTask:
    """Answers units in a seat, with a model of its own.

    Attributes:
        model: as of `cpuserve.models.find_model.find_model`.
        settings: in force.
        folder: what paths of inputs are relative to.
        every: only frames with a number that this divides.
        topk: number of classes wanted; None for the model's own.
        scaler: of swscale, for frames.
    """

    model: str | Path
    settings: Settings
    folder: Path
    every: int = 1
    topk: int | None = None
    scaler: Scaler = "bilinear"

    def run(self, words: Connection, threads: int) -> None:
        """Answer units until there are no more; see `cpuserve.video.seats.SeatTask`."""
        with UnitAnswers(self, threads) as answers:
            words.send(answers.loaded)
            waiting: deque[_BegunUnit] = deque()
            while True:
                while not waiting or words.poll():
                    waiting.append(answers.begin(words.recv()))
                for news in told_in_time(waiting.popleft()):
                    words.send(news)


@dataclass
class _BegunUnit:
    """A unit that is under way, and its rows in order."""

    unit: int
    rows: Iterator[UnitRow]


def told_in_time(begun: _BegunUnit) -> Iterator[UnitNews]:
    """The rows of a unit in groups, the last one marked; none waits long for others."""
    news, due = UnitNews(begun.unit), time.monotonic() + _FLUSH_S
    for row in begun.rows:
        news.rows.append(row)
        if len(news.rows) >= _FLUSH_ROWS or time.monotonic() >= due:
            yield news
            news, due = UnitNews(begun.unit), time.monotonic() + _FLUSH_S
    yield replace(news, ended=True)


class UnitAnswers:
    """A loaded model that makes rows of units. A context manager.

    Attributes:
        loaded: the model.

    Args:
        task: what is asked.
        threads: compute threads.

    Raises:
        CpuserveError: the model cannot be loaded, or takes no pictures.
    """

    def __init__(self, task: BatchTask, threads: int) -> None:
        # OpenVINO in the seat alone
        from cpuserve.models.find_model import find_model  # noqa: PLC0415
        from cpuserve.serving.loader import load_pipeline  # noqa: PLC0415
        from cpuserve.serving.openvino_core import openvino_core  # noqa: PLC0415
        from cpuserve.video.frame_model import FrameModel  # noqa: PLC0415
        from cpuserve.video.infer import InferOptions  # noqa: PLC0415
        from cpuserve.video.local_answers import LocalAnswers  # noqa: PLC0415

        self._task = task
        settings = replace(task.settings, result_cache_bytes=0)
        file = find_model(task.model, settings.model_repository)
        self._pipeline: Pipeline = load_pipeline(openvino_core(), file, settings, threads)
        engine = self._pipeline.batcher.engine
        at_once = max(engine.streams, settings.max_batch or 1, threads)
        frames = FrameModel(self._pipeline, at_once, task.scaler)
        options = InferOptions(task.every, task.topk, task.scaler)
        self._videos = LocalAnswers(frames, options, processes=threads, max_pixels=settings.max_pixels)
        self._threads = ThreadPoolExecutor(at_once, "pictures")
        self._probed: VideoFile | None = None
        self.loaded = LoadedModel(
            file.name,
            file.version,
            self._pipeline.checksum,
            str(engine.read_back()["INFERENCE_PRECISION_HINT"]),
        )

    def __enter__(self) -> UnitAnswers:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._videos.close()

    def begin(self, unit: WorkUnit) -> _BegunUnit:
        """Begin with a unit: its pictures are answered from now on, frames when they are asked for."""
        if unit.is_video:
            return _BegunUnit(unit.number, self._frames(unit))
        begun = [(index, self._threads.submit(self._picture, unit.inputs[index])) for index in unit.wanted]
        return _BegunUnit(unit.number, _as_they_end(begun))

    def _picture(self, uri: str) -> bytes:
        from cpuserve.serving.request import Request  # noqa: PLC0415

        try:
            content = read_remote(uri) if is_remote(uri) else self._path(uri).read_bytes()
            request = Request(max_answer_bytes=self._task.settings.max_answer_bytes)
            answer = self._pipeline.predict(content, request, self._task.topk)
        except OSError as error:
            return _error(uri, f"it cannot be read: {error.strerror or error}")
        except CpuserveError as error:
            return _error(uri, str(error))
        except RuntimeError as error:  # what OpenVINO raises while it computes
            return _error(uri, f"the model failed on it: {error}")
        return orjson.dumps({"input": text_of_path(uri), **self._head, **answer})

    @property
    def _head(self) -> dict[str, Any]:
        return {"model": self.loaded.name, "version": str(self.loaded.version)}

    def _frames(self, unit: WorkUnit) -> Iterator[UnitRow]:
        from cpuserve.video.video_sources import VideoSource  # noqa: PLC0415

        (uri,) = unit.inputs
        path, following = self._path(uri), unit.start
        source = VideoSource(str(path), path.name)
        try:
            if self._probed is None or self._probed.path != path:
                self._probed = self._videos.probe(source)  # once for all parts of a video
            with closing(self._videos.answer(source, self._probed, unit.start, unit.stop)) as frames:  # type: ignore[type-var]
                for frame in frames:
                    place = {"frame": frame.number, "pts": frame.pts, "time_s": round(frame.time_s, 6)}
                    yield UnitRow(
                        frame.number, orjson.dumps({"input": text_of_path(uri), **place, **frame.answer})
                    )
                    following = frame.number + 1
        except VideoError as error:
            text = str(error).replace(str(path), text_of_path(uri))
            yield UnitRow(following, _error(uri, text, frame=following))

    def _path(self, uri: str) -> Path:
        return local_path(uri, self._task.folder)


def _as_they_end(begun: list[tuple[int, Future[bytes]]]) -> Iterator[UnitRow]:
    for index, future in begun:
        yield UnitRow(index, future.result())


def _error(uri: str, text: str, **place: int) -> bytes:
    return orjson.dumps({"input": text_of_path(uri), **place, "error": text})
