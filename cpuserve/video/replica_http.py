"""Asks one replica over HTTP, by the Open Inference Protocol with binary data."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
import orjson

from cpuserve.video.frame_messages import (
    answers_of,
    frame_outputs_wanted,
    frame_parameters,
    frame_tensor,
    served_model,
)
from cpuserve.video.replica_link import (
    FrameRefused,
    FrameRequest,
    FramesAnswered,
    ReplicaBusy,
    ReplicaFailed,
    ReplicaTarget,
    ServedModel,
    speaks,
)
from cpuserve.video.tensor_recipe import ReceivedOutput

__all__ = ["HttpLink"]

_CONNECT_S, _PROBE_S = 5.0, 10.0
_BUSY = (408, 429, 503)
_FRAME = (400, 413, 415, 422)  # other refusals are about the model, the key or the server
_LASTING = (400, 401, 403, 404, 405)
_MOST_REASON = 300
_LENGTH = "Inference-Header-Content-Length"


class HttpLink:
    """A pool of connections to one server; made inside the loop that uses it.

    Args:
        target: with a URL of ``http`` or ``https``.
    """

    def __init__(self, target: ReplicaTarget) -> None:
        self._target = target
        self._session = aiohttp.ClientSession(
            headers={"X-API-Key": target.api_key} if target.api_key else None,
            connector=aiohttp.TCPConnector(limit=0),
            auto_decompress=True,
        )

    async def close(self) -> None:
        """End the connections."""
        await self._session.close()

    async def model(self) -> ServedModel:
        """See `ReplicaLink.model`."""
        path = self._path(self._target.version)
        await self._get(f"{path}/ready")
        metadata, config = await self._get(path), {}
        try:
            config = await self._get(f"{path}/config")
        except ReplicaFailed as error:
            if not error.lasting:
                raise  # else the server has none, as OpenVINO Model Server
        found = await asyncio.to_thread(served_model, metadata, config, self._target.recipe)
        return self._target.checked(found)

    async def ask(self, model: ServedModel, request: FrameRequest) -> FramesAnswered:
        """See `ReplicaLink.ask`."""
        datatype, shape, content = frame_tensor(model, request)
        entry = {
            "name": model.input_name,
            "datatype": datatype,
            "shape": shape,
            "parameters": {"binary_data_size": len(content)},
        }
        parameters = {**frame_parameters(model, request), "binary_data_output": True}
        outputs = [{"name": name} for name in frame_outputs_wanted(model, request)]
        asked = {"outputs": outputs} if outputs else {}
        head = orjson.dumps({"inputs": [entry], **asked, "parameters": parameters})
        headers = {_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
        url = f"{self._path(model.version)}/infer"
        async with _errors(self._target.url, self._target.timeout_s):
            timeout = aiohttp.ClientTimeout(total=self._target.timeout_s, sock_connect=_CONNECT_S)
            async with self._session.post(
                url, data=b"".join((head, content)), headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                body = await response.read()
        if response.status != 200:
            raise _refusal(response, body)
        timing = response.headers.get("Server-Timing", "")
        return answers_of(model, _outputs(body, response.headers.get(_LENGTH, "")), request, timing)

    def _path(self, version: str) -> str:
        path = f"{self._target.url.rstrip('/')}/v2/models/{quote(self._target.name, safe='')}"
        return f"{path}/versions/{version}" if version else path

    async def _get(self, url: str) -> Any:
        async with _errors(self._target.url, _PROBE_S):
            timeout = aiohttp.ClientTimeout(total=_PROBE_S, sock_connect=_CONNECT_S)
            async with self._session.get(url, timeout=timeout, allow_redirects=False) as response:
                body = await response.read()
        if response.status != 200:
            text = f"{response.status}: {_reason(body)}"
            before = urlsplit(self._target.url).path
            if response.status == 404 and before:
                text += f" ({before} of its URL comes before /v2/models)"
            raise ReplicaFailed(text, lasting=response.status in _LASTING)
        try:
            return orjson.loads(body or b"{}")  # a server may be ready without a word
        except ValueError:
            raise ReplicaFailed(
                f"its answer is no JSON, as that of another kind of server: {_shown(body)}"
            ) from None


@contextlib.asynccontextmanager
async def _errors(url: str, timeout_s: float) -> Any:
    """Has what goes wrong on the way to a server raised as `ReplicaFailed`."""
    try:
        yield
    except TimeoutError:
        raise ReplicaFailed(f"no answer within {timeout_s:g} s") from None
    except aiohttp.ClientConnectorCertificateError as error:
        raise ReplicaFailed(str(error)) from None
    except aiohttp.ClientConnectorSSLError as error:
        if "WRONG_VERSION_NUMBER" not in str(error):
            raise ReplicaFailed(str(error)) from None
        text = f"it speaks no TLS: give it as {speaks(url, 'http')}"
        raise ReplicaFailed(text, lasting=True) from None
    except aiohttp.ClientConnectorError as error:
        cause = error.os_error  # asyncio writes the address into its text; a name that is not found has < 0
        number = cause.errno or 0
        reason = os.strerror(number) if number > 0 else cause.strerror or str(cause)
        raise ReplicaFailed(f"no connection to {error.host}:{error.port}: {reason}") from None
    except aiohttp.ClientResponseError as error:
        # SETTINGS, the first frame of HTTP/2, stands where a status line is expected
        if "x04\\x00\\x00\\x00\\x00\\x00" in error.message:
            text = f"it speaks HTTP/2 only, as gRPC does: give it as {speaks(url, 'grpc')}, or its HTTP port"
            raise ReplicaFailed(text, lasting=True) from None
        raise ReplicaFailed(f"its answer is no HTTP: {' '.join(error.message.split())[:120]}") from None
    except (aiohttp.ClientError, OSError, ValueError, asyncio.IncompleteReadError) as error:
        raise ReplicaFailed(str(error) or type(error).__name__) from None


def _outputs(body: bytes, header_length: str) -> list[ReceivedOutput]:
    """Each output with its binary data."""
    view, found = memoryview(body), []
    try:
        at = int(header_length)
        for output in orjson.loads(view[:at])["outputs"]:
            size = int(output["parameters"]["binary_data_size"])
            name, datatype, shape = str(output["name"]), output["datatype"], [*output["shape"]]
            found.append(ReceivedOutput(name, datatype, shape, view[at : at + size]))
            at += size
    except (ValueError, KeyError, TypeError):
        raise ReplicaFailed(f"its answer has no binary data: {_shown(body)}") from None
    if at != len(view):
        raise ReplicaFailed(f"its answer has {len(view)} bytes, its outputs {at}")
    return found


def _refusal(response: aiohttp.ClientResponse, body: bytes) -> ReplicaBusy | ReplicaFailed | FrameRefused:
    text = f"{response.status}: {_reason(body)}"
    if response.status in _BUSY:
        after = response.headers.get("Retry-After", "")
        return ReplicaBusy(text, float(after) if after.isdecimal() else 0.0)
    return (FrameRefused if response.status in _FRAME else ReplicaFailed)(text)


def _reason(body: bytes) -> str:
    """The text of a V2 error, or what came instead."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(orjson.loads(body)["error"])[:_MOST_REASON]
    return _shown(body)


def _shown(body: bytes) -> str:
    return repr(body[:60].decode(errors="replace")) if body else "nothing"
