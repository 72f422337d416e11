"""A pipeline that answers a question it has answered before from its cache; it decides no answer itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import openvino as ov
import orjson

from cpuserve.errors import ModelLoadError
from cpuserve.models.cut_manifest import PYTHON, Parts
from cpuserve.serving.cache import Kept, ResultCache, digest
from cpuserve.serving.engine import Array
from cpuserve.serving.picture_input import Encoded, Frame
from cpuserve.serving.pipeline import Pipeline
from cpuserve.serving.postprocess import Answer
from cpuserve.serving.request import Request

__all__ = ["CachingPipeline", "check_repeatable"]

_CHANGING = frozenset({"RandomUniform", "Multinomial", "ReadValue", "Assign"})


@dataclass(frozen=True)
class CachingPipeline(Pipeline):
    """A pipeline whose answers are kept by the content of the pictures or tensors and by what was asked.

    A refused request leaves nothing behind. A version that is loaded anew is another pipeline, with an empty
    cache.

    Attributes:
        results: the answers.
    """

    results: ResultCache = field(kw_only=True)

    def predict(self, picture: Encoded, request: Request, topk: int | None = None) -> Answer:
        """As `Pipeline.predict`."""
        make = partial(super().predict, picture, request, topk)
        return cast("Answer", self._words_once(("predict", topk), [picture], request, make))

    def predict_all(
        self, pictures: Sequence[Encoded], request: Request, topk: int | None = None
    ) -> list[Answer]:
        """As `Pipeline.predict_all`."""
        make = partial(super().predict_all, pictures, request, topk)
        return cast("list[Answer]", self._words_once(("predict_all", topk), pictures, request, make))

    def render(
        self, picture: Encoded, request: Request, topk: int | None = None, *, mask: bool = False
    ) -> bytes:
        """As `Pipeline.render`."""
        key, kept = self._find(("render", topk, mask), [picture], request)
        if kept is None:
            kept = self._keep(key, super().render(picture, request, topk, mask=mask))
        return cast("bytes", kept)

    def infer_pictures(
        self, pictures: Sequence[Encoded], request: Request, frames: dict[int, Frame] | None = None
    ) -> list[Array]:
        """As `Pipeline.infer_pictures`; with ``frames``, which no cache can fill, always computed."""
        make = partial(super().infer_pictures, pictures, request, frames)
        if frames is not None:
            return make()
        return self._tensors_once("infer_pictures", pictures, request, make)

    def infer(self, tensors: Sequence[Array], request: Request) -> list[Array]:
        """As `Pipeline.infer`."""
        return self._tensors_once("infer", tensors, request, partial(super().infer, tensors, request))

    def _words_once(
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

    def _tensors_once(
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
    ) -> tuple[bytes, Kept | None]:
        request.done("queue")
        began = time.perf_counter_ns()
        key = digest(words, contents)
        kept = self.results.get(key)
        spent = time.perf_counter_ns() - began
        if kept is None:
            self.recorder.missed(spent)
            request.start()  # looking it up belongs to no stage
        else:
            self.recorder.remembered(request, spent)
        return key, kept

    def _keep(self, key: bytes, answer: Kept) -> Kept:
        self.results.put(key, answer)
        return answer


def _sealed(array: Array) -> Array:
    """The array, from now on for reading only: several requests will see it."""
    array.flags.writeable = False
    return array


def check_repeatable(model: ov.Model, parts: Parts | None, name: str) -> None:
    """Refuse to keep answers of what may answer the same question in two ways.

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
