"""Asks a loaded version the requests of its ``warmup/`` directory, and refuses one that answers wrongly."""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from cpuserve.errors import ModelLoadError, RequestError
from cpuserve.models.repository import ModelFile
from cpuserve.models.warm_up_files import (
    WarmUpRequest,
    read_warm_up_file,
    warm_up_files_of,
    warm_up_requests,
)
from cpuserve.protocols.call import Call
from cpuserve.protocols.inference import infer_outputs
from cpuserve.protocols.tensor import Tensor, datatype_of
from cpuserve.protocols.v2_body import InferBody, parse_infer
from cpuserve.serving.answer_comparison import agreement_of_answers, agreement_of_outputs, likeness
from cpuserve.serving.engine import Array
from cpuserve.serving.picture_files import PICTURE_ENDINGS
from cpuserve.serving.pipeline import Pipeline
from cpuserve.serving.postprocess import TensorsOnly
from cpuserve.serving.request import Request
from cpuserve.settings import Settings

__all__ = ["check_warm_up"]

_log = logging.getLogger("cpuserve.warm_up")
_TENSORS = (".npy", ".npz")
_KINDS = f"a picture ({', '.join(sorted(PICTURE_ENDINGS))}), .npy, .npz, or .json (a request of V2)"


def check_warm_up(pipeline: Pipeline, file: ModelFile, settings: Settings) -> None:
    """Answer every request in the warm-up directory of a version, and compare with what is expected.

    Args:
        pipeline: the version, loaded; nothing of this is counted as its requests or kept in its cache.
        file: where it lies.
        settings: the settings in force.

    Raises:
        ModelLoadError: a request is not answered, or not as expected; the message names its file.
    """
    requests = warm_up_requests(warm_up_files_of(file.xml))
    if not requests:
        return
    limit = settings.for_model(file.name, {}).warmup_agreement
    asked = pipeline.uncounted()
    for one in requests:
        agreement = _agreement(asked, one, settings)
        if agreement is not None and agreement < limit:
            raise ModelLoadError(
                f"{one.file}: its answer agrees by {agreement:.3f} with that expected, less than {limit:g} "
                "(setting warmup_agreement)"
            )
    expected = sum(one.expected is not None for one in requests)
    _log.info(
        "model %s version %d answered %d warm-up requests, %d of them as expected",
        *(file.name, file.version, len(requests), expected),
    )


def _agreement(pipeline: Pipeline, one: WarmUpRequest, settings: Settings) -> float | None:
    """How far the answer to a request agrees with the one expected; None where none is.

    Raises:
        ModelLoadError: it is not answered, or one of the two files cannot be used.
    """
    data = read_warm_up_file(one.file, settings.max_body_bytes)
    expected = _document(one.expected, settings) if one.expected is not None else {}
    picture = one.file.suffix.lower() in PICTURE_ENDINGS
    try:
        if picture and "outputs" not in expected and not isinstance(pipeline.post, TensorsOnly):
            entries = expected.get("predictions")
            topk = len(entries) if isinstance(entries, list) and entries else None
            answer = pipeline.predict(data, Request(), topk)
            return agreement_of_answers(expected, answer) if one.expected is not None else None
        body = _body(pipeline, one.file, data)
        found = infer_outputs(pipeline, body, Request(), Call("POST", "/v2"))
    except RequestError as error:
        raise ModelLoadError(f"{one.file} is not answered: {error}") from error
    except ValueError as error:
        raise ModelLoadError(f"{one.expected} cannot be compared: {error}") from error
    if one.expected is None:
        return None
    try:
        return _of_outputs(pipeline, expected, {name: values for name, values, _ in found})
    except (LookupError, TypeError, ValueError) as error:
        raise ModelLoadError(
            f"{one.expected} cannot be compared: it is no answer of /v2/models/{pipeline.name}/infer in JSON "
            f"({type(error).__name__}: {error})"
        ) from error


def _document(file: Path, settings: Settings) -> dict[str, Any]:
    """An expected answer.

    Raises:
        ModelLoadError: it is no JSON object, or cannot be read.
    """
    try:
        document = orjson.loads(read_warm_up_file(file, settings.max_body_bytes))
    except orjson.JSONDecodeError as error:
        raise ModelLoadError(f"{file} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ModelLoadError(f"{file} is no JSON object")
    return document


def _body(pipeline: Pipeline, file: Path, data: bytes) -> InferBody:
    """The infer request that a file stands for.

    Raises:
        RequestError: it stands for none.
    """
    ending = file.suffix.lower()
    if ending == ".json":
        return parse_infer(memoryview(data), None)
    only = pipeline.inputs[0].names[0]
    if ending in PICTURE_ENDINGS:
        return InferBody([Tensor(only, "BYTES", (1,), [memoryview(data)])])
    if ending not in _TENSORS:
        raise RequestError(f"a warm-up file is {_KINDS}")
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        arrays = {only: loaded} if ending == ".npy" else {name: loaded[name] for name in loaded.files}
        return InferBody([_tensor(name, np.asarray(array)) for name, array in arrays.items()])
    except (ValueError, KeyError, AttributeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise RequestError(f"it is no {ending} file of numbers ({error})") from error


def _tensor(name: str, array: Array) -> Tensor:
    return Tensor(
        name, datatype_of(array.dtype), array.shape, memoryview(np.ascontiguousarray(array).tobytes())
    )


def _of_outputs(pipeline: Pipeline, document: Mapping[str, Any], given: Mapping[str, Array]) -> float:
    """How far outputs agree with those of a V2 answer.

    Raises:
        LookupError, TypeError, ValueError: it is no such answer.
    """
    expected = {str(one["name"]): _values(one) for one in document["outputs"]}
    if missing := [name for name in expected if name not in given]:
        raise LookupError(f"there is no output {', '.join(missing)}; there are {', '.join(given)}")
    names = [port.names[0] for port in pipeline.outputs]
    pairs: Sequence[tuple[Array, Array]] = [(expected[name], given[name]) for name in expected]
    if {*names} != expected.keys() or any(two.dtype.kind == "O" for _, two in pairs):
        return min(likeness(*pair) for pair in pairs)
    post = None if isinstance(pipeline.post, TensorsOnly) else pipeline.post
    return agreement_of_outputs(
        post,
        pipeline.input_size,
        [expected[name].astype(given[name].dtype) for name in names],
        [given[name] for name in names],
    )


def _values(output: Mapping[str, Any]) -> Array:
    kind = object if output["datatype"] == "BYTES" else np.float64
    return np.array(output["data"], kind).reshape(output["shape"])
