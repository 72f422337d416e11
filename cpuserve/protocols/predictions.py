"""TorchServe's routes: `POST /predictions/MODEL[/VERSION]` answers a picture with JSON or a drawing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qs

import orjson

from cpuserve.errors import NotAcceptable, RequestError
from cpuserve.protocols.accept import best_offer
from cpuserve.protocols.call import Call, Reply, json_reply
from cpuserve.protocols.form import read_form
from cpuserve.serving.pool import Pool

__all__ = ["Predictions"]

_JSON, _PNG = "application/json", "image/png"
_TAKES_JSON = frozenset((None, "", "*/*", _JSON))
_RENDERS = ("overlay", "mask")
_NUMBER = re.compile("[+-]?[0-9]{1,18}")
_Query = Mapping[str, str]


class Predictions:
    """The routes over one worker's models."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def ping(self, _call: Call) -> Reply:
        """``GET /ping``: TorchServe's health check."""
        healthy = self._pool.ready
        return json_reply({"status": "Healthy" if healthy else "Unhealthy"}, 200 if healthy else 503)

    def predict(self, call: Call, model: str, version: str | None = None) -> Reply:
        """The answer to one picture, sent as the raw body or as a multipart form's first file.

        The query parameter ``topk`` asks for a number of classes. ``Accept: image/png`` asks for the answer
        drawn over the picture, or with ``render=mask`` for the class of each pixel.
        """
        pipeline = self._pool.pick(model, version, call.headers)
        query = _query(call)
        topk = _topk(query) if query else None
        request = call.request()
        if call.headers.get("accept") not in _TAKES_JSON or "render" in query:
            render = _render(call, query)
            if render is not None:
                data = pipeline.render(_picture(call), request, topk, mask=render == "mask")
                return Reply(200, data, [("Content-Type", _PNG), ("Server-Timing", request.server_timing())])
        found = pipeline.predict(_picture(call), request, topk)
        data = orjson.dumps({"model": pipeline.name, "version": str(pipeline.version), **found})
        return Reply(200, data, [("Content-Type", _JSON), ("Server-Timing", request.server_timing())])


def _picture(call: Call) -> memoryview:
    form = read_form(call)
    if form is None:
        return call.body()
    for file in form.files.values():
        return file
    raise RequestError("the multipart form holds no file; send one, as curl -F data=@photo.jpg does")


def _query(call: Call) -> _Query:
    """The query parameters, the last of each name."""
    if not call.query:
        return {}
    return {name: values[-1] for name, values in parse_qs(call.query, keep_blank_values=True).items()}


def _topk(query: _Query) -> int | None:
    if "topk" not in query:
        return None
    if not _NUMBER.fullmatch(query["topk"]):
        raise RequestError(f"topk is a whole number, not {query['topk'][:40]!r}")
    return int(query["topk"])


def _render(call: Call, query: _Query) -> str | None:
    """What is to be drawn, None where JSON is the better answer.

    Raises:
        RequestError: ``render`` is none of the words it may be.
        NotAcceptable: the ``Accept`` header takes neither JSON nor PNG, or not the PNG that ``render`` means.
    """
    render = query.get("render")
    if render is not None and render not in _RENDERS:
        raise RequestError(f"render is one of {', '.join(_RENDERS)}, not {render[:40]!r}")
    offers = [_JSON, _PNG] if render is None else [_PNG]
    header = call.headers.get("accept") or "*/*"
    best = best_offer(header, offers)
    if best is None:
        raise NotAcceptable(f"the answer is {' or '.join(offers)}; the Accept header takes {header[:80]!r}")
    return (render or _RENDERS[0]) if best == _PNG else None
