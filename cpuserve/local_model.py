"""A model loaded in this process, which answers pictures and tensors as the server does."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, overload

import cv2
import numpy as np

from cpuserve.errors import CpuserveError, RequestError, TooManyPixels, UndecodableImage
from cpuserve.machine.budget import Budget
from cpuserve.models.find_model import find_model
from cpuserve.models.repository import ModelFile
from cpuserve.serving.decode import Decoded, Decoder, Pixels
from cpuserve.serving.decoder_guard import DecoderGuard
from cpuserve.serving.engine import Array, Port
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.picture_input import Encoded
from cpuserve.serving.pipeline import Pipeline
from cpuserve.serving.request import Request
from cpuserve.settings import Settings
from cpuserve.settings import load as load_settings

__all__ = ["Model", "Picture", "load"]

Picture = str | Path | bytes | bytearray | memoryview | np.ndarray[Any, Any]
"""A file's path, the bytes of an encoded picture, or pixels u8 [H, W, 3] in RGB order."""

_COLOURS = {"RGB": None, "BGR": cv2.COLOR_RGB2BGR, "GRAY": cv2.COLOR_RGB2GRAY}


def load(
    model: str | Path,
    *,
    model_repository: str | Path | None = None,
    decode: Literal["fast", "exact"] | None = None,
    precision: Literal["auto", "f32", "bf16", "f16"] | None = None,
    threads: int | None = None,
    max_batch: int | None = None,
    max_pixels: int | None = None,
    allow_unvalidated: bool | None = None,
    config: str | Path | None = None,
) -> Model:
    """Load a model into this process: read, compile and warm it.

    Settings that are not given come from the environment (``CPUSERVE_DECODE`` ...), the settings file, the
    model's metadata and their defaults, as for the server; docs/settings.md explains each.

    Example::

        with cpuserve.load("digits") as model:
            print(model.predict("docs/seven.png"))

    Args:
        model: ``NAME`` or ``NAME/VERSION`` in the repository, or a path: a model file, the directory of a
            version, or a directory of versions. A string is looked for in the repository first.
        model_repository: the directory of models.
        decode: how JPEG is decoded.
        precision: in which OpenVINO computes.
        threads: most CPU threads that compute at once; None for as many CPUs as this process may use.
        max_batch: the largest batch that is compiled.
        max_pixels: the largest picture that is taken.
        allow_unvalidated: load an INT8 model although no accuracy was recorded for it.
        config: a settings file (TOML).

    Raises:
        UnknownModel: there is no such model, version or path.
        RepositoryError: the model cannot be read, or OpenVINO refuses it.
        UsageError: a setting's value is wrong.
    """
    given = {
        "model_repository": model_repository,
        "decode": decode,
        "precision": precision,
        "threads": threads,
        "max_batch": max_batch,
        "max_pixels": max_pixels,
        "allow_unvalidated": allow_unvalidated,
    }
    settings = load_settings(given, file=None if config is None else Path(config))
    file = find_model(model, settings.model_repository)
    return Model(file, settings)


class Model:
    """One version of a model in this process; made by `load`. A context manager; several threads may use it.

    Attributes:
        name: of the model.
        version: of the model.

    Args:
        file: the version's files.
        settings: the settings in force.
    """

    def __init__(self, file: ModelFile, settings: Settings) -> None:
        self.name = file.name
        self.version = file.version
        # the cache takes pictures apart by their bytes, which do not tell the width of an array of pixels
        settings = dataclasses.replace(settings, result_cache_bytes=0)
        threads = settings.threads or Budget.read().effective
        self._max_answer_bytes = settings.max_answer_bytes
        pipeline = load_pipeline(openvino_core(), file, settings, threads)
        self._guard: DecoderGuard | None = None
        if pipeline.pictures is not None:
            picture_input = pipeline.pictures.picture_input
            decoder = _PixelDecoder.like(picture_input.decoder)
            self._guard = decoder.guard
            picture_input = dataclasses.replace(picture_input, decoder=decoder)
            pictures = dataclasses.replace(pipeline.pictures, picture_input=picture_input)
            pipeline = dataclasses.replace(pipeline, pictures=pictures)
        self._loaded: Pipeline | None = pipeline

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the model's memory and end the processes that decoded its pictures."""
        self._loaded = None
        if self._guard is not None:
            self._guard.close()

    @property
    def inputs(self) -> Sequence[Port]:
        """Names, type and shape of each input."""
        return self._pipeline.inputs

    @property
    def outputs(self) -> Sequence[Port]:
        """Names, type and shape of each output."""
        return self._pipeline.outputs

    @overload  # a str is also a sequence of str; the first signature is the one that counts
    def predict(  # type: ignore[overload-overlap]
        self, picture: Picture, *, topk: int | None = None
    ) -> dict[str, Any]: ...

    @overload
    def predict(self, picture: Sequence[Picture], *, topk: int | None = None) -> list[dict[str, Any]]: ...

    def predict(
        self, picture: Picture | Sequence[Picture], *, topk: int | None = None
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """The answer of ``/predictions/MODEL`` to a picture, or to each of a list.

        Args:
            picture: a path, the bytes of an encoded picture, an array u8 [H, W, 3] in RGB order, or a list of
                these, which is run in batches.
            topk: number of classes to answer; None for the model's default.

        Raises:
            RequestError: a picture cannot be read or decoded, or the model does not answer pictures.
        """
        pipeline, request = self._pipeline, self._request()
        head = {"model": pipeline.name, "version": str(pipeline.version)}
        if isinstance(picture, (str, Path, bytes, bytearray, memoryview, np.ndarray)):
            return {**head, **pipeline.predict(_content(picture), request, topk)}
        answers = pipeline.predict_all([_content(one) for one in picture], request, topk)
        return [{**head, **answer} for answer in answers]

    def render(self, picture: Picture, *, topk: int | None = None, mask: bool = False) -> bytes:
        """The answer to a picture, drawn over it, as a PNG.

        Args:
            picture: as for `predict`.
            topk: number of classes to answer; None for the model's default.
            mask: draw the class of each pixel instead, for a segmentation.

        Raises:
            RequestError: as for `predict`, or a mask of a model that is no segmentation.
        """
        return self._pipeline.render(_content(picture), self._request(), topk, mask=mask)

    def infer(self, tensors: Array | Mapping[str, Array]) -> dict[str, Array]:
        """The outputs for tensors.

        Args:
            tensors: one array for each input, by name; an array alone for a model with one input. Type and
                shape are those of `inputs`, where -1 is any size.

        Returns:
            One array for each output, by its first name, in the shape of `outputs`.

        Raises:
            RequestError: an input is missing or unknown, or a tensor has another type or shape.
        """
        pipeline = self._pipeline
        if isinstance(tensors, np.ndarray):
            tensors = {pipeline.inputs[0].names[0]: tensors}
        names = {name: place for place, port in enumerate(pipeline.inputs) for name in port.names}
        by_place = {names.get(name, -1): tensor for name, tensor in tensors.items()}
        places = range(len(pipeline.inputs))
        if len(by_place) != len(tensors) or {*by_place} != {*places}:
            wanted = ", ".join(port.names[0] for port in pipeline.inputs)
            raise RequestError(
                f"model {self.name} takes the inputs {wanted}, not {', '.join(tensors) or 'none'}"
            )
        outputs = pipeline.infer([by_place[place] for place in places], self._request())
        return {port.names[0]: output for port, output in zip(pipeline.outputs, outputs, strict=True)}

    @property
    def _pipeline(self) -> Pipeline:
        if self._loaded is None:
            raise CpuserveError(f"model {self.name} is closed: load it again")
        return self._loaded

    def _request(self) -> Request:
        return Request(max_answer_bytes=self._max_answer_bytes)


class _PixelDecoder(Decoder):
    """A decoder that also takes pixels: a memoryview of u8 [H, W, 3] in RGB order."""

    @classmethod
    def like(cls, decoder: Decoder) -> _PixelDecoder:
        """A decoder with the options of another, and decoding processes of its own."""
        guard = decoder.guard
        if guard is not None:
            guard = DecoderGuard(guard.formats, guard.timeout_s)
        return cls(decoder.order, decoder.exact, decoder.max_pixels, decoder.max_scan_pixels, guard)

    def decode(self, data: Encoded, width: int = 0, height: int = 0) -> Decoded:
        if not isinstance(data, memoryview) or data.ndim != 3:
            return super().decode(data, width, height)
        pixels: Pixels = np.asarray(data)
        height, width = pixels.shape[:2]
        if height * width > self.max_pixels:
            raise TooManyPixels(
                f"the picture has {width}x{height} = {width * height} pixels, "
                f"the limit is {self.max_pixels} (setting max_pixels)"
            )
        code = _COLOURS[self.order]
        ordered = pixels if code is None else cv2.cvtColor(pixels, code)
        return Decoded(ordered, 1, width, height)  # type: ignore[arg-type]  # OpenCV's arrays have no type


def _content(picture: Picture) -> Encoded:
    """A picture as the pipeline takes it.

    Raises:
        UndecodableImage: the file cannot be read.
        RequestError: it is no array of pixels, or nothing that a picture can be.
    """
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return picture
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
            raise RequestError(
                "an array of pixels is uint8 [height, width, 3] in RGB order, "
                f"not {picture.dtype.name} {list(picture.shape)}"
            )
        return np.ascontiguousarray(picture).data
    if not isinstance(picture, (str, Path)):
        raise RequestError(f"a picture is a path, bytes or an array, not {type(picture).__name__}")
    try:
        return Path(picture).read_bytes()
    except OSError as error:
        raise UndecodableImage(f"{picture} cannot be read: {error.strerror}") from error
