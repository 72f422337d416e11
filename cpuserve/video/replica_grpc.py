"""Asks one replica over gRPC, by the Open Inference Protocol."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from cpuserve.grpc.messages import message_class
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

__all__ = ["GrpcLink"]

_SERVICE = "/inference.GRPCInferenceService"
_PROBE_S = 10.0
_PORTS = {"grpc": 8001, "grpcs": 443}
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5000),
]
_LASTING = (
    *(grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED),
    *(grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED),
)
_FRAME = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)


class GrpcLink:
    """A channel to one server; made inside the loop that uses it.

    Args:
        target: with a URL of ``grpc`` or ``grpcs``.
    """

    def __init__(self, target: ReplicaTarget) -> None:
        self._target = target
        parts = urlsplit(target.url)
        address = f"{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"
        if ":" in (parts.hostname or ""):
            address = f"[{parts.hostname}]:{parts.port or _PORTS[parts.scheme]}"
        if parts.scheme == "grpcs":
            self._channel = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(), _OPTIONS)
        else:
            self._channel = grpc.aio.insecure_channel(address, _OPTIONS)
        self._metadata = (("x-api-key", target.api_key),) if target.api_key else ()

    async def close(self) -> None:
        """End the channel."""
        await self._channel.close()

    async def model(self) -> ServedModel:
        """See `ReplicaLink.model`."""
        named = {"name": self._target.name, "version": self._target.version}
        if not (await self._call("ModelReady", named, _PROBE_S))[0].ready:
            raise ReplicaFailed(f"model {self._target.name} is not ready there")
        metadata, _ = await self._call("ModelMetadata", named, _PROBE_S)
        config: dict[str, Any] = {}
        try:
            config = _as_dict((await self._call("ModelConfig", named, _PROBE_S))[0].config)
        except ReplicaFailed as error:
            if not error.lasting:
                raise  # else the server has none, as OpenVINO Model Server
        found = await asyncio.to_thread(served_model, _as_dict(metadata), config, self._target.recipe)
        return self._target.checked(found)

    async def ask(self, model: ServedModel, request: FrameRequest) -> FramesAnswered:
        """See `ReplicaLink.ask`."""
        datatype, shape, content = frame_tensor(model, request)
        parameters = frame_parameters(model, request)
        fields = {
            "model_name": model.name,
            "model_version": model.version,
            "inputs": [{"name": model.input_name, "datatype": datatype, "shape": shape}],
            "outputs": [{"name": name} for name in frame_outputs_wanted(model, request)],
            "raw_input_contents": [content],
            "parameters": {name: {"int64_param": value} for name, value in parameters.items()},
        }
        response, timing = await self._call("ModelInfer", fields, self._target.timeout_s)
        if len(response.outputs) != len(response.raw_output_contents):
            raise ReplicaFailed("its answer has no raw_output_contents")
        outputs = [
            ReceivedOutput(one.name, one.datatype, [*one.shape], memoryview(data))
            for one, data in zip(response.outputs, response.raw_output_contents, strict=True)
        ]
        return answers_of(model, outputs, request, timing)

    async def _call(self, method: str, fields: dict[str, Any], timeout_s: float) -> tuple[Any, str]:
        """The response of a method, and its ``server-timing``."""
        response = message_class(f"inference.{method}Response")
        call = self._channel.unary_unary(
            f"{_SERVICE}/{method}",
            request_serializer=message_class(f"inference.{method}Request").SerializeToString,
        )(message_class(f"inference.{method}Request")(**fields), timeout=timeout_s, metadata=self._metadata)
        try:
            found = response.FromString(await call)
            headers = {
                **dict(await call.initial_metadata() or ()),
                **dict(await call.trailing_metadata() or ()),
            }
        except grpc.aio.AioRpcError as error:
            raise _refusal(error, self._target.url, timeout_s) from None
        except DecodeError:
            raise ReplicaFailed(f"its answer is no {method}Response") from None
        return found, str(headers.get("server-timing", ""))


def _as_dict(message: Any) -> dict[str, Any]:
    found: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return found


def _refusal(
    error: grpc.aio.AioRpcError, url: str, timeout_s: float
) -> ReplicaBusy | ReplicaFailed | FrameRefused:
    code, said = error.code(), error.details() or ""
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return ReplicaFailed(f"no answer within {timeout_s:g} s")
    if code == grpc.StatusCode.UNAVAILABLE and "Failed parsing HTTP/2" in said:
        text = f"it speaks no gRPC: give it as {speaks(url, 'http')}, or its gRPC port (--grpc-port there)"
        return ReplicaFailed(text, lasting=True)
    if code == grpc.StatusCode.UNAVAILABLE and "WRONG_VERSION_NUMBER" in said:
        return ReplicaFailed(f"it speaks no TLS: give it as {speaks(url, 'grpc')}", lasting=True)
    text = f"{code.name}: {said[:300]}"
    after = dict(error.trailing_metadata() or ()).get("retry-after", "")
    if after:  # the server's word; without it UNAVAILABLE is the channel's
        return ReplicaBusy(text, float(after) if str(after).isdecimal() else 0.0)
    if code in _FRAME:
        return FrameRefused(text)
    return ReplicaFailed(text, lasting=code in _LASTING)
