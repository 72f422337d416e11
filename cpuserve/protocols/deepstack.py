"""DeepStack's route for object detection, which Frigate, CodeProject.AI's clients and others ask."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any

from cpuserve.errors import CpuserveError, RequestError
from cpuserve.protocols.call import Call, Reply, error_reply, json_reply
from cpuserve.protocols.form import read_form
from cpuserve.serving.pool import Pool

__all__ = ["LEAST_CONFIDENCE", "MOST_OBJECTS", "DeepStack"]

LEAST_CONFIDENCE = 0.4
"""Frigate stops reading at the first object below it; a form's ``min_confidence`` may ask for others."""

MOST_OBJECTS = 20
"""Frigate has room for so many, and its detector fails at one more."""

_IMAGE, _LEAST = "image", "min_confidence"


class DeepStack:
    """The route over one worker's models.

    Args:
        pool: the models of the worker that answers.
        model: the one that finds the objects.
    """

    def __init__(self, pool: Pool, model: str) -> None:
        self._pool = pool
        self._model = model

    def detect(self, call: Call) -> Reply:
        """``POST /v1/vision/detection``: the objects of the picture in the form's file ``image``, best first.

        A refusal has ``success`` false and says why in ``error``.
        """
        try:
            return self._detect(call)
        except CpuserveError as error:
            reply = error_reply(error)
            said = json_reply(
                {"success": False, "error": error.public_text, "code": error.status}, error.status
            )
            reply.body = said.body
            return reply

    def _detect(self, call: Call) -> Reply:
        form = read_form(call)
        picture = None if form is None else form.files.get(_IMAGE)
        if form is None or picture is None:
            raise RequestError(f"send a multipart form with the picture as file {_IMAGE!r}")
        least = _confidence(form.texts.get(_LEAST))
        pipeline, request = self._pool.pick(self._model, None, call.headers), call.request()
        answer = pipeline.predict(picture, request)
        if "detections" not in answer:
            raise RequestError(f"model {self._model} finds no boxes: the setting deepstack takes a detector")
        objects = [_object(one) for one in answer["detections"] if one["probability"] >= least]
        document = {"success": True, "predictions": objects[:MOST_OBJECTS]}
        return json_reply(document, HTTPStatus.OK, Server_Timing=request.server_timing())


def _confidence(text: str | None) -> float:
    """The least confidence that a form asks for.

    Raises:
        RequestError: it is no number from 0 to 1.
    """
    if not text:
        return LEAST_CONFIDENCE
    try:
        least = float(text)
    except ValueError:
        least = math.nan
    if not 0 <= least <= 1:
        raise RequestError(f"{_LEAST} is a number from 0 to 1, not {text[:40]!r}")
    return least


def _object(detection: dict[str, Any]) -> dict[str, Any]:
    """An object as DeepStack describes it, with corners in whole pixels."""
    corners = zip(("x_min", "y_min", "x_max", "y_max"), map(round, detection["box"]), strict=True)
    return {"confidence": detection["probability"], "label": detection["label"], **dict(corners)}
