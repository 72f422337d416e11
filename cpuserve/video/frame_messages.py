"""Writes scaled frames as tensors of the Open Inference Protocol, and reads answers and models from it."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import orjson

from cpuserve.protocols.tensor import datatype_of
from cpuserve.serving.decode import Pixels
from cpuserve.video.replica_link import (
    FrameRequest,
    FramesAnswered,
    ReplicaFailed,
    ServedModel,
    unreadable,
)
from cpuserve.video.tensor_recipe import ReceivedOutput, TensorRecipe

__all__ = [
    "answers_of",
    "frame_outputs_wanted",
    "frame_parameters",
    "frame_tensor",
    "served_model",
    "server_seconds",
]

_DURATION = re.compile(r"(\w+);dur=([0-9.]+)")
_ENTRIES = {
    "detections": {"label", "probability", "box"},
    "classes": {"label", "area"},
    "predictions": {"label", "probability"},
}
_COLOURS: dict[str, Literal["RGB", "BGR", "GRAY"]] = {"RGB": "RGB", "BGR": "BGR", "GRAY": "GRAY"}


def frame_tensor(model: ServedModel, request: FrameRequest) -> tuple[str, list[int], bytes]:
    """Datatype, shape and bytes of the input that carries the frames of a request.

    Raises:
        FrameRefused: the server takes no such payload.
    """
    if model.recipe is not None:
        tensor = model.recipe.tensor(request)
        return datatype_of(tensor.dtype), [*tensor.shape], tensor.tobytes()
    count = len(request.contents)
    if request.payload == "raw":
        shape = [count, model.height, model.width, model.channels]
        return "UINT8", shape, b"".join(request.contents)
    parts = [part for one in request.contents for part in (struct.pack("<I", len(one)), one)]
    return "BYTES", [count], b"".join(parts)


def frame_parameters(model: ServedModel, request: FrameRequest) -> dict[str, int]:
    """The parameters that make a request one of scaled frames."""
    if model.recipe is not None:
        return {}
    topk = {} if request.topk is None else {"topk": request.topk}
    return {"frame_width": request.width, "frame_height": request.height, **topk}


def frame_outputs_wanted(model: ServedModel, request: FrameRequest) -> list[str]:
    """Names of the outputs of a request; none for all of them."""
    if model.recipe is not None:
        return []
    return ["answer", "mask"] if request.mask else ["answer"]


def answers_of(
    model: ServedModel, outputs: Sequence[ReceivedOutput], request: FrameRequest, server_timing: str
) -> FramesAnswered:
    """The answers in the outputs of a request: each is JSON behind its length, 4 bytes little-endian.

    Args:
        model: that gave them.
        outputs: as `frame_outputs_wanted`.
        request: what was asked.
        server_timing: the header of that name; empty for none.

    Raises:
        ReplicaFailed: they are damaged, or not as many as frames were sent.
        FrameRefused: nothing can be answered to what was asked.
    """
    if model.recipe is not None:
        found = model.recipe.answers(outputs, request, model.version)
        server_s, queue_s = server_seconds(server_timing)
        return replace(found, server_s=server_s, queue_s=queue_s)
    if len(outputs) != len(frame_outputs_wanted(model, request)):
        raise ReplicaFailed(f"its answer has {len(outputs)} outputs")
    try:
        answers = [orjson.loads(text) for text in _elements(outputs[0].data)]
    except (ValueError, struct.error) as error:
        raise ReplicaFailed(f"its answer is damaged: {error}") from None
    count = len(request.contents)
    if len(answers) != count:
        raise ReplicaFailed(f"it gave {len(answers)} answers to {count} frames")
    wrong = next((reason for one in answers if (reason := _wrong_form(one, model))), None)
    if wrong is not None:
        raise ReplicaFailed(wrong)
    masks: Sequence[Pixels] = ()
    if request.mask:
        data = outputs[1].data
        if len(data) != count * request.height * request.width:
            raise ReplicaFailed(f"its masks have {len(data)} bytes")
        masks = [*np.frombuffer(data, np.uint8).reshape(count, request.height, request.width)]
    return FramesAnswered(answers, masks, *server_seconds(server_timing))


def _wrong_form(answer: Any, model: ServedModel) -> str | None:
    """What an answer is instead of one of the model; None where it is one."""
    if not isinstance(answer, dict):
        return f"its answer is {str(answer)[:60]}, no object"
    named = answer.get("model"), answer.get("version")
    if named[0] is None:
        return "its answer names no model"
    if named != (model.name, model.version):
        return f"its answer is of model {named[0]} version {named[1]}, not of {model.name} {model.version}"
    for kind, keys in _ENTRIES.items():
        if kind not in answer:
            continue
        entries = answer[kind]
        if not isinstance(entries, list):
            return f"its answer has no list of {kind}"
        if not all(isinstance(one, dict) and keys <= one.keys() for one in entries):
            return f"its answer has {kind} without {', '.join(sorted(keys))}"
    return None


def _elements(view: memoryview) -> Iterator[memoryview]:
    at = 0
    while at < len(view):
        (length,) = struct.unpack_from("<I", view, at)
        at += 4 + length
        yield view[at - length : at]  # one that is cut off is no JSON


def server_seconds(header: str) -> tuple[float | None, float]:
    """Seconds in all, and of waiting, of a ``Server-Timing`` header; None where it has no durations."""
    stages = {name: float(value) / 1000 for name, value in _DURATION.findall(header)}
    total = stages.get("total", sum(stages.values()))
    return (total if stages else None), stages.get("queue", 0.0)


def served_model(
    metadata: Mapping[str, Any], config: Mapping[str, Any], recipe: Callable[[], TensorRecipe]
) -> ServedModel:
    """The model that V2's metadata and config describe.

    Args:
        metadata: of the model.
        config: of the model; empty where the server has none.
        recipe: gives what is around the tensors of the model, for a server that takes no scaled frames.

    Raises:
        ReplicaFailed: the server does not take scaled frames, or says nothing that can be read.
    """
    try:
        parameters = {
            name: str(one["string_value"]) for name, one in dict(config.get("parameters") or {}).items()
        }
        inputs: Sequence[Mapping[str, Any]] = metadata["inputs"]
        if "picture_input" not in parameters:
            return recipe().served(metadata)
        picture = json.loads(parameters["picture_input"])
        return ServedModel(
            name=str(metadata["name"]),
            version=parameters["version"],
            checksum=parameters.get("sha256", ""),
            input_name=str(inputs[0]["name"]),
            width=int(picture["width"]),
            height=int(picture["height"]),
            colour=_COLOURS[picture["colour"]],
            fit=str(picture["fit"]),
            pad_value=int(picture["pad_value"]),
            has_mask=picture.get("mask") is True,
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ReplicaFailed(unreadable(error)) from None
