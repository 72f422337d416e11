"""Writes scaled frames as tensors of the Open Inference Protocol, and reads answers and models from it."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import orjson

from cpuserve.serving.decode import Pixels
from cpuserve.video.replica_link import FrameRequest, FramesAnswered, ReplicaFailed, ServedModel

__all__ = [
    "answers_of",
    "frame_outputs_wanted",
    "frame_parameters",
    "frame_tensor",
    "served_model",
    "server_seconds",
]

_DURATION = re.compile(r"(\w+);dur=([0-9.]+)")
_COLOURS: dict[str, Literal["RGB", "BGR", "GRAY"]] = {"RGB": "RGB", "BGR": "BGR", "GRAY": "GRAY"}


def frame_tensor(model: ServedModel, request: FrameRequest) -> tuple[str, list[int], bytes]:
    """Datatype, shape and bytes of the input that carries the frames of a request."""
    count = len(request.contents)
    if request.payload == "raw":
        shape = [count, model.height, model.width, model.channels]
        return "UINT8", shape, b"".join(request.contents)
    parts = [part for one in request.contents for part in (struct.pack("<I", len(one)), one)]
    return "BYTES", [count], b"".join(parts)


def frame_parameters(request: FrameRequest) -> dict[str, int]:
    """The parameters that make a request one of scaled frames."""
    topk = {} if request.topk is None else {"topk": request.topk}
    return {"frame_width": request.width, "frame_height": request.height, **topk}


def frame_outputs_wanted(request: FrameRequest) -> list[str]:
    """Names of the outputs of a request."""
    return ["answer", "mask"] if request.mask else ["answer"]


def answers_of(
    outputs: Sequence[bytes | memoryview], request: FrameRequest, server_timing: str
) -> FramesAnswered:
    """The answers in the outputs of a request: each is JSON behind its length, 4 bytes little-endian.

    Args:
        outputs: as `frame_outputs_wanted`.
        request: what was asked.
        server_timing: the header of that name; empty for none.

    Raises:
        ReplicaFailed: they are damaged, or not as many as frames were sent.
    """
    try:
        found = [orjson.loads(text) for text in _elements(memoryview(outputs[0]))]
    except (ValueError, struct.error) as error:
        raise ReplicaFailed(f"its answer is damaged: {error}") from None
    count = len(request.contents)
    if len(outputs) != len(frame_outputs_wanted(request)):
        raise ReplicaFailed(f"its answer has {len(outputs)} outputs")
    if len(found) != count or not all(isinstance(one, dict) for one in found):
        raise ReplicaFailed(f"it gave {len(found)} answers to {count} frames")
    masks: Sequence[Pixels] = ()
    if request.mask:
        if len(outputs[1]) != count * request.height * request.width:
            raise ReplicaFailed(f"its masks have {len(outputs[1])} bytes")
        masks = [*np.frombuffer(outputs[1], np.uint8).reshape(count, request.height, request.width)]
    return FramesAnswered(found, masks, *server_seconds(server_timing))


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


def served_model(metadata: Mapping[str, Any], config: Mapping[str, Any]) -> ServedModel:
    """The model that V2's metadata and config describe.

    Raises:
        ReplicaFailed: the server does not take scaled frames, or says nothing that can be read.
    """
    try:
        parameters = {
            name: str(one["string_value"]) for name, one in dict(config.get("parameters") or {}).items()
        }
        inputs: Sequence[Mapping[str, Any]] = metadata["inputs"]
        if "picture_input" not in parameters:
            raise ReplicaFailed(
                f"model {metadata['name']} there takes no scaled frames: no cpuserve of this version serves "
                "it, or the model answers no pictures",
                lasting=True,
            )
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
        raise ReplicaFailed(f"what it says of its model cannot be read: {error!r}") from None
