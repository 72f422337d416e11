"""`POST /predictions/MODEL[/VERSION]`: an encoded picture in, its classes out, as in TorchServe."""

from __future__ import annotations

from io import BytesIO
from typing import IO, Any
from urllib.parse import parse_qs

from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.wrappers import Request as FormRequest

from cpuserve.errors import BodyTooLarge, RequestError
from cpuserve.serving.pool import Pool
from cpuserve.serving.request import Request
from cpuserve.web.exchange import Body, Call, Reply, json_reply

__all__ = ["Images"]


class Images:
    """The image routes over one worker's models."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def ping(self, _call: Call) -> Reply:
        """``GET /ping``: TorchServe's health check."""
        healthy = self._pool.ready
        return json_reply({"status": "Healthy" if healthy else "Unhealthy"}, 200 if healthy else 503)

    def predict(self, call: Call, model: str, version: str | None = None) -> Reply:
        """Classes of one picture, sent as the raw body or as a multipart form's first file.

        The query parameter ``topk`` asks for a number of classes.
        """
        pipeline = self._pool.get(model, version)
        request = Request(call.arrived_ns)
        found = pipeline.predict(_picture(call), request, _topk(call))
        return json_reply(
            {"model": pipeline.name, "version": str(pipeline.version), **found},
            Server_Timing=request.server_timing(),
        )


class _Form(FormRequest):
    """A multipart form whose files stay in memory: the body is there whole already."""

    def _get_file_stream(self, *_: Any, **__: Any) -> IO[bytes]:
        return BytesIO()


def _picture(call: Call) -> memoryview:
    kind = call.header("CONTENT_TYPE") or ""
    if not kind.startswith("multipart/"):
        return call.body()
    body = call.body()
    environ = {**call.environ, "wsgi.input": Body(body), "CONTENT_LENGTH": str(body.nbytes)}
    try:
        with _Form(environ) as form:
            for file in form.files.values():
                return memoryview(file.read())
    except RequestEntityTooLarge:
        raise BodyTooLarge(
            "the multipart form has too many parts, or text longer than 500 kB; send the picture as the body"
        ) from None
    except HTTPException as error:
        raise RequestError(f"the multipart form cannot be read: {error.description}") from None
    raise RequestError("the multipart form holds no file; send one, as curl -F data=@photo.jpg does")


def _topk(call: Call) -> int | None:
    query = call.header("QUERY_STRING")
    if not query:
        return None
    values = parse_qs(query).get("topk")
    if values is None:
        return None
    try:
        return int(values[-1])
    except ValueError:
        raise RequestError(f"topk is a whole number, not {values[-1]!r}") from None
