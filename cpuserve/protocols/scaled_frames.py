"""Answers frames that the client scaled to the model's picture input, as an extension of the V2 protocol.

The parameters ``frame_width`` and ``frame_height`` of a request make it one of frames. Its only input holds
their pixels, UINT8 [N, H, W, C] as `picture_input_text` says, or pictures of that size, BYTES [N]. The
parameter ``topk`` is that of ``/predictions/MODEL``. The output ``answer`` is BYTES [N]: the JSON of
``/predictions/MODEL``, places in pixels of the whole frame. The output ``mask``, if it is asked for, is
UINT8 [N, frame_height, frame_width] of a segmentation. Both may be asked for in shared memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from cpuserve.errors import RequestError
from cpuserve.protocols.call import check_pictures
from cpuserve.protocols.client_limits import ClientLimits
from cpuserve.protocols.tensor import Tensor
from cpuserve.protocols.v2_body import InferBody, OutputWanted
from cpuserve.serving.engine import Array
from cpuserve.serving.picture_input import ScaledPicture
from cpuserve.serving.pipeline import Pipeline
from cpuserve.serving.postprocess import Segmenter, TensorsOnly
from cpuserve.serving.request import Request

__all__ = ["EXTENSION", "frame_outputs", "is_of_frames", "picture_input_text"]

EXTENSION = "scaled_frames"
_WIDTH, _HEIGHT = "frame_width", "frame_height"
_ANSWER, _MASK = "answer", "mask"
_MOST_SIDE = 65535
_AXES = 4


def is_of_frames(parameters: Mapping[str, Any]) -> bool:
    """Whether a request with these parameters is one of scaled frames."""
    return _WIDTH in parameters or _HEIGHT in parameters


def picture_input_text(pipeline: Pipeline) -> str:
    """What frames are scaled to, as JSON for the config of a model; empty for one that answers none."""
    if pipeline.pictures is None or isinstance(pipeline.post, TensorsOnly):
        return ""
    resizer, decoder = pipeline.pictures.picture_input.resizer, pipeline.pictures.picture_input.decoder
    return json.dumps(
        {
            "width": resizer.width,
            "height": resizer.height,
            "colour": decoder.order,
            "fit": resizer.resize_type,
            "pad_value": resizer.pad_value,
            "mask": isinstance(pipeline.post, Segmenter),
        }
    )


def frame_outputs(
    pipeline: Pipeline, inputs: Sequence[Tensor], asked: InferBody, request: Request, limits: ClientLimits
) -> list[tuple[OutputWanted, Array]]:
    """Answer a request of scaled frames.

    Args:
        pipeline: of the model.
        inputs: of the request, out of shared memory where they were there.
        asked: the request.
        request: its deadline and stage times.
        limits: of its client.

    Returns:
        Each output that is asked for, and its values.

    Raises:
        RequestError: sizes, pixels or outputs are not what they have to be.
    """
    width, height = (_side(asked.parameters, name) for name in (_WIDTH, _HEIGHT))
    outputs = asked.outputs or [OutputWanted(_ANSWER, asked.binary)]
    masked = _wants_mask(pipeline, outputs)
    topk = asked.parameters.get("topk")
    if topk is not None and type(topk) is not int:
        raise RequestError(f"parameter topk is a whole number, not {str(topk)[:40]!r}")
    count = _count(pipeline, inputs)
    check_pictures(count, limits.max_pictures)
    if masked:
        request.check_answer(count, width * height)
    request.done("queue")
    texts = np.empty(count, object)
    masks: list[Array] = []
    for place, picture in enumerate(_pictures(pipeline, inputs[0], width, height)):
        if place:
            request.check_time(place, count)
        one = Request(None, request.spans, request.due, request.max_answer_bytes)
        answer, mask = pipeline.see(picture, one, topk, mask=masked)
        head = {"model": pipeline.name, "version": str(pipeline.version)}
        texts[place] = orjson.dumps({**head, **answer}).decode()
        if mask is not None:
            masks.append(mask)
        for stage, spent in one.stages_ns.items():
            request.stages_ns[stage] += spent
    values = {_ANSWER: texts, _MASK: np.stack(masks) if masks else texts}
    return [(output, values[output.name]) for output in outputs]


def _wants_mask(pipeline: Pipeline, outputs: Sequence[OutputWanted]) -> bool:
    """Whether one of the outputs is the mask.

    Raises:
        RequestError: there is no such output, or none of that form.
    """
    names = [output.name for output in outputs]
    if unknown := next((name for name in names if name not in (_ANSWER, _MASK)), None):
        raise RequestError(f"scaled frames have the outputs {_ANSWER} and {_MASK}, not {unknown!r}")
    if classified := next((output.name for output in outputs if output.classification), None):
        raise RequestError(
            f"output {classified!r} of scaled frames has no classification; the parameter topk of the "
            "request says how many classes an answer has"
        )
    if _MASK in names and not isinstance(pipeline.post, Segmenter):
        raise RequestError(f"model {pipeline.name} is not a segmentation model and has no mask")
    return _MASK in names


def _side(parameters: Mapping[str, Any], name: str) -> int:
    side = parameters.get(name)
    if type(side) is not int or not 1 <= side <= _MOST_SIDE:
        raise RequestError(
            f"parameter {name} is a number of pixels from 1 to {_MOST_SIDE}, not {str(side)[:40]!r}"
        )
    return side


def _count(pipeline: Pipeline, inputs: Sequence[Tensor]) -> int:
    """How many frames a request has.

    Raises:
        RequestError: it has several inputs, or they are neither pixels nor pictures.
    """
    if len(inputs) != 1 or inputs[0].name not in pipeline.inputs[0].names:
        raise RequestError(f"scaled frames are the only input, {pipeline.inputs[0].names[0]!r}")
    shape, kind = inputs[0].shape, inputs[0].datatype
    pixels = kind == "UINT8" and len(shape) == _AXES and 0 not in shape
    if not pixels and not (kind == "BYTES" and inputs[0].is_list):
        raise RequestError(
            f"input {inputs[0].name!r}: scaled frames are UINT8 [N, height, width, channels] or BYTES [N], "
            f"not {kind} {list(shape)}"
        )
    return shape[0]


def _pictures(pipeline: Pipeline, tensor: Tensor, width: int, height: int) -> Iterator[ScaledPicture]:
    """The frames, one after the other: pictures of few bytes may have many pixels.

    Raises:
        RequestError: what was sent does not fill its shape, or is no picture.
    """
    if tensor.datatype == "UINT8":
        for pixels in tensor.array():
            yield ScaledPicture(pixels, width, height)
        return
    decoder = pipeline.picture_path().picture_input.decoder
    for encoded in tensor.elements():
        decoded = decoder.decode(encoded).pixels
        yield ScaledPicture(decoded if decoded.ndim > 2 else decoded[:, :, None], width, height)
