"""A model that takes no time: everything a worker does for a picture but decoding and inference."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from cpuserve.models.card import Card
from cpuserve.models.repository import ModelFile
from cpuserve.serving.batcher import Batcher
from cpuserve.serving.engine import Array, Part, Port
from cpuserve.serving.feed import Encoded, Feed, Frame
from cpuserve.serving.graph import ImageInput
from cpuserve.serving.pipeline import Pictures, Pipeline
from cpuserve.serving.pool import ModelState, Pool
from cpuserve.serving.postprocess import Classifier
from cpuserve.serving.stats import Recorder

__all__ = ["NAME", "Nothing", "bare"]

NAME = "nothing"
_CLASSES = 1000


class _Slot:
    def __init__(self, rows: int) -> None:
        self.inputs = (np.zeros((rows, 1, 1, 3), np.uint8),)
        self._outputs = (np.random.default_rng(0).random((rows, _CLASSES), np.float32),)

    def outputs(self, first: int, count: int) -> tuple[Array, ...]:
        return tuple(array[first : first + count] for array in self._outputs)


class _Engine:
    sizes, rows, streams = (1,), 1, 64
    inputs = (Port(("x",), np.dtype(np.uint8), (1, 1, 3)),)
    outputs = (Port(("y",), np.dtype(np.float32), (_CLASSES,)),)

    def new_slot(self) -> _Slot:
        return _Slot(self.rows)

    def run(self, slot: _Slot, parts: Sequence[Part]) -> None:
        pass

    def read_back(self) -> Mapping[str, str]:
        return {}


class _Feed(Feed):
    def into(self, picture: Encoded, row: Array, spans: Any = None) -> Frame:
        return Frame(1, 1)


class Nothing(Pool):
    """A pool whose one model, `NAME`, is there at once and answers the best 5 of 1000 classes."""

    @property
    def ready(self) -> bool:
        """Whether the worker is not stopping."""
        return not self.stopping

    def sync(self, *, beside_traffic: bool = False, stop: threading.Event | None = None) -> None:
        """There is nothing to load."""
        del beside_traffic, stop
        recorder = self.statistics.recorder(self._row, NAME, 1)
        state = ModelState(ModelFile(NAME, 1, Path(f"{NAME}.xml")), (), "READY", "", _pipeline(recorder))
        self.models = {NAME: {1: state}}


def _pipeline(recorder: Recorder) -> Pipeline:
    card = Card()
    given = Feed.of(ImageInput("x", 1, 1, 3, "NHWC"), card, exact=False, max_pixels=1)
    batcher = Batcher(_Engine(), recorder)
    feed = _Feed(given.decoder, given.resizer, given.channels)
    labels = [f"class {number}" for number in range(_CLASSES)]
    return Pipeline(NAME, 1, card, batcher, Pictures(feed, batcher), Classifier(labels), recorder)


def bare(environ: Mapping[str, Any], start_response: Any) -> list[bytes]:
    """A WSGI application that reads the body and answers JSON, whatever is asked."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length)
    answer = orjson.dumps({"bytes": len(body), "predictions": [{"class_id": n, "p": 0.2} for n in range(5)]})
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))]
    start_response("200 OK", headers)
    return [answer]
