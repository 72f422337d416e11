"""Keeps answers in memory and gives them again to requests with the same content."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import numpy as np
import openvino as ov
import orjson

from cpuserve.errors import ModelLoadError
from cpuserve.models.cut_manifest import PYTHON, CutManifest
from cpuserve.serving.engine import Array
from cpuserve.serving.picture_input import Encoded, PictureSize
from cpuserve.serving.pipeline import Pipeline
from cpuserve.serving.postprocess import Answer
from cpuserve.serving.request import Request
from cpuserve.serving.row_source import RowSource, arrays_of

__all__ = ["ENTRY_BYTES", "CachedAnswer", "CachingPipeline", "ResultCache", "check_repeatable", "digest"]

CachedAnswer = bytes | tuple[Array, ...]
"""An answer as JSON or PNG, or read-only tensors."""

ENTRY_BYTES = 512
"""Bytes of an entry beside its answer: its key, its place in the order, the headers of objects."""

_CHANGING = frozenset({"RandomUniform", "Multinomial", "ReadValue", "Assign"})
"""Operations that give other outputs for the same inputs."""


def digest(words: Sequence[object], contents: Iterable[bytes | bytearray | memoryview | Array]) -> bytes:
    """The key of a request: SHA-256 over what is asked and over the contents that were sent.

    Args:
        words: what changes the answer beside the contents.
        contents: pictures or tensors; their lengths, types and shapes belong to the key.
    """
    found = hashlib.sha256(repr(tuple(words)).encode())
    for content in contents:
        if isinstance(content, np.ndarray):
            found.update(f"|{content.dtype.str}{content.shape}|".encode())
            found.update(np.ascontiguousarray(content).data)
        else:
            found.update(b"|%d|" % len(content))
            found.update(content)
    return found.digest()


class ResultCache:
    """Answers of one version of a model in one worker; the least recently used make room.

    Args:
        limit_bytes: of all answers, including what an entry takes itself.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._bytes = 0
        self._kept: OrderedDict[bytes, CachedAnswer] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """Bytes in use."""
        return self._bytes

    def get(self, key: bytes) -> CachedAnswer | None:
        """The answer, or None."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: bytes, answer: CachedAnswer) -> None:
        """Keep an answer, unless it is larger than the limit."""
        size = _size(answer)
        if size > self.limit_bytes:
            return
        with self._lock:
            before = self._kept.pop(key, None)  # two threads may have computed it at the same time
            self._bytes += size - (0 if before is None else _size(before))
            self._kept[key] = answer
            while self._bytes > self.limit_bytes:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= _size(oldest)


def _size(answer: CachedAnswer) -> int:
    if isinstance(answer, bytes):
        return ENTRY_BYTES + len(answer)
    return ENTRY_BYTES * (1 + len(answer)) + sum(array.nbytes for array in answer)


@dataclass(frozen=True)
class CachingPipeline(Pipeline):
    """A pipeline that keeps its answers by the contents sent and by what was asked.

    A refused request leaves nothing behind. A version that is loaded anew is another pipeline, with an empty
    cache.

    Attributes:
        results: the answers.
    """

    results: ResultCache = field(kw_only=True)

    def predict(self, picture: Encoded, request: Request, topk: int | None = None) -> Answer:
        """As `Pipeline.predict`."""
        make = partial(super().predict, picture, request, topk)
        return cast("Answer", self._answer_once(("predict", topk), [picture], request, make))

    def predict_all(
        self, pictures: Sequence[Encoded], request: Request, topk: int | None = None
    ) -> list[Answer]:
        """As `Pipeline.predict_all`."""
        make = partial(super().predict_all, pictures, request, topk)
        return cast("list[Answer]", self._answer_once(("predict_all", topk), pictures, request, make))

    def render(
        self, picture: Encoded, request: Request, topk: int | None = None, *, mask: bool = False
    ) -> bytes:
        """As `Pipeline.render`."""
        key, kept = self._find(("render", topk, mask), [picture], request)
        if kept is None:
            kept = self._keep(key, super().render(picture, request, topk, mask=mask))
        return cast("bytes", kept)

    def infer_pictures(
        self, pictures: Sequence[Encoded], request: Request, frames: dict[int, PictureSize] | None = None
    ) -> list[Array]:
        """As `Pipeline.infer_pictures`; with ``frames``, which no cache can fill, always computed."""
        make = partial(super().infer_pictures, pictures, request, frames)
        if frames is not None:
            return make()
        return self._outputs_once("infer_pictures", pictures, request, make)

    @property
    def takes_sources(self) -> bool:
        """The values are looked up."""
        return False

    def infer(self, tensors: Sequence[Array | RowSource], request: Request) -> list[Array]:
        """As `Pipeline.infer`."""
        make = partial(super().infer, tensors, request)
        return self._outputs_once("infer", arrays_of(tensors), request, make)

    def _answer_once(
        self,
        words: Sequence[object],
        contents: Sequence[Encoded],
        request: Request,
        make: Callable[[], object],
    ) -> Any:
        key, kept = self._find(words, contents, request)
        if kept is not None:
            return orjson.loads(cast("bytes", kept))
        made = make()
        self._keep(key, orjson.dumps(made))
        return made

    def _outputs_once(
        self,
        word: str,
        contents: Sequence[Encoded | Array],
        request: Request,
        make: Callable[[], list[Array]],
    ) -> list[Array]:
        key, kept = self._find((word,), contents, request)
        if kept is None:
            kept = self._keep(key, tuple(_sealed(array) for array in make()))
        return list(cast("tuple[Array, ...]", kept))

    def _find(
        self, words: Sequence[object], contents: Sequence[Encoded | Array], request: Request
    ) -> tuple[bytes, CachedAnswer | None]:
        request.done("queue")
        began = time.perf_counter_ns()
        key = digest(words, contents)
        kept = self.results.get(key)
        spent = time.perf_counter_ns() - began
        if kept is None:
            self.recorder.cache_miss(spent)
            request.start()  # looking it up belongs to no stage
        else:
            self.recorder.cache_hit(request, spent)
        return key, kept

    def _keep(self, key: bytes, answer: CachedAnswer) -> CachedAnswer:
        self.results.put(key, answer)
        return answer


def _sealed(array: Array) -> Array:
    """Make the array read-only: several requests will see it."""
    array.flags.writeable = False
    return array


def check_repeatable(model: ov.Model, parts: CutManifest | None, name: str) -> None:
    """Refuse a cache for a model that may answer the same request in two ways.

    Raises:
        ModelLoadError: the graph draws random numbers or keeps a state, or a part of it is a Python function.
    """
    found = sorted({node.get_type_name() for node in model.get_ops()} & _CHANGING)
    if parts is not None:
        found += [part.what for part in (parts.head, parts.tail) if part and part.run == PYTHON]
    if found:
        raise ModelLoadError(
            f"{name} has {', '.join(found)} and may answer the same picture in two ways: its answers cannot "
            f"be kept; set result_cache_bytes = 0 in [models.{name}]"
        )
