"""GRPCInferenceService: the Open Inference Protocol over gRPC, by the handlers of its HTTP routes."""

from __future__ import annotations

import math
import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Any

import orjson
from google.protobuf.json_format import ParseDict

from cpuserve.errors import ModelNotReady, NotSupported, RequestError, UnknownModel
from cpuserve.grpc.infer_message import InferMessage, infer_response
from cpuserve.grpc.messages import message_class
from cpuserve.grpc.method import Method, Task, model_path, plain_method, refused_method
from cpuserve.protocols.admin import Admin
from cpuserve.protocols.call import Call, Reply, answer, json_reply
from cpuserve.protocols.inference import RepeatedInference, SentOutput, infer_outputs
from cpuserve.protocols.repository import RepositoryRoutes
from cpuserve.protocols.shared_memory import SharedMemory, SharedMemoryRoutes
from cpuserve.protocols.statistics import StatisticsRoutes
from cpuserve.protocols.v2 import V2
from cpuserve.serving.pipeline import Pipeline
from cpuserve.serving.pool import Pool
from cpuserve.serving.request import Request

__all__ = ["InferenceService"]

_SERVICE = "inference.GRPCInferenceService"
_NO_CUDA = "there is no CUDA here: register system shared memory, or send tensors"
_KEPT, _SHORT_BYTES = 256, 1024
_DIGITS = re.compile("[0-9]{1,9}")  # of a number that JSON has too
_NO_NAME = "the request needs the name of a model"
_Outputs = Callable[[Pipeline, Request, Call], list[SentOutput]]
_StreamResponse = message_class("inference.ModelStreamInferResponse")


class InferenceService:
    """The methods over one worker's models.

    Args:
        pool: the models.
        admin: answers for the log and trace settings.
        shared_memory: of the server; None where there is none.
    """

    service = _SERVICE

    def __init__(self, pool: Pool, admin: Admin, shared_memory: SharedMemory | None = None) -> None:
        self._pool = pool
        self._shared_memory = shared_memory
        self._v2 = V2(pool, shared_memory)
        self._repository = RepositoryRoutes(pool)
        self._statistics = StatisticsRoutes(pool)
        self._admin = admin
        self._repeated = lru_cache(maxsize=_KEPT)(self._task)

    def methods(self) -> Sequence[Method]:
        """All methods of the service."""
        more = _shared_memory_methods(self._shared_memory)
        v2, repository = self._v2, self._repository
        by_json = _from_json
        return (
            _method("ServerLive", "GET", "/v2/health/live", v2.live, by_json, at_once=True),
            _method("ServerReady", "GET", "/v2/health/ready", v2.ready, _ready, at_once=True),
            _method(
                "ModelReady", "GET", "/v2/models/-/ready", self._model_ready, by_json, place=_place("/ready")
            ),
            _method("ServerMetadata", "GET", "/v2", v2.server, by_json),
            _method("ModelMetadata", "GET", "/v2/models/-", v2.metadata, by_json, place=_place()),
            _method("ModelConfig", "GET", "/v2/models/-/config", v2.config, _config, place=_place("/config")),
            _method(
                *("ModelStatistics", "GET", "/v2/models/stats", self._statistics.stats, by_json),
                place=_place("/stats", everything=True),
            ),
            _method(
                "RepositoryIndex", "POST", "/v2/repository/index", repository.index, _index, body=_only_ready
            ),
            _method(
                *("RepositoryModelLoad", "POST", "/v2/repository/models/-/load", repository.load, _empty),
                place=_repository_place("load"),
                body=_load_parameters,
            ),
            _method(
                *(
                    "RepositoryModelUnload",
                    "POST",
                    "/v2/repository/models/-/unload",
                    repository.unload,
                    _empty,
                ),
                place=_repository_place("unload"),
            ),
            _method(
                *("TraceSetting", "POST", "/v2/trace/setting", self._admin.trace_setting, _trace_settings),
                body=_trace_body,
            ),
            _method(
                *("LogSettings", "POST", "/v2/logging", self._admin.logging, _log_settings), body=_log_body
            ),
            Method(f"/{_SERVICE}/ModelInfer", "POST", "/v2/models/-/infer", self._infer),
            Method(
                f"/{_SERVICE}/ModelStreamInfer", "POST", "/v2/models/-/infer", self._infer, wrap=_in_stream
            ),
            *more,
            _refused("CudaSharedMemoryRegister", _NO_CUDA),
        )

    def _model_ready(self, call: Call, model: str, version: str | None = None) -> Reply:
        """A model that is not there is not ready: callers wait for it."""
        try:
            return self._v2.model_ready(call, model, version)
        except (UnknownModel, ModelNotReady):
            return json_reply({"ready": False})

    def _infer(self, data: bytes) -> Task:
        """Read a ModelInferRequest; a short one is kept, as clients with shared memory repeat theirs."""
        return self._repeated(data) if len(data) <= _SHORT_BYTES else self._task(data)

    def _task(self, data: bytes) -> Task:
        message = InferMessage.read(data)
        structure = message.structure
        if not structure.model_name:
            raise RequestError(_NO_NAME)
        kept = len(data) <= _SHORT_BYTES and not message.has_values
        if kept:
            outputs = RepeatedInference(partial(message.body, 0), self._shared_memory).outputs
        else:
            outputs = partial(self._outputs, message)
        handle = partial(self._run, message, outputs)
        return Task(
            *(structure.path, partial(answer, handle), True),
            *(structure.timeout_s or math.inf, structure.priority),
            message.shared_bytes() if kept else 0,
        )

    def _outputs(
        self, message: InferMessage, pipeline: Pipeline, request: Request, call: Call
    ) -> list[SentOutput]:
        asked = message.body(call.limits.max_json_elements)
        return infer_outputs(pipeline, asked, request, call, self._shared_memory)

    def _run(self, message: InferMessage, outputs: _Outputs, call: Call) -> Reply:
        structure = message.structure
        pipeline = self._pool.pick(structure.model_name, structure.model_version or None, call.headers)
        request = call.request()
        found = outputs(pipeline, request, call)
        content = infer_response((pipeline.name, str(pipeline.version)), message.id, found)
        call.alone = not pipeline.batcher.gathers
        return Reply(200, content, [("Server-Timing", request.server_timing())])


def _in_stream(data: bytes, reply: Reply) -> bytes:
    """The ModelStreamInferResponse that answers one request of a stream.

    Args:
        data: the request.
        reply: its answer; a refusal becomes ``error_message``, and the stream goes on.
    """
    message = _StreamResponse()
    if reply.refusal is None:
        message.infer_response.ParseFromString(reply.body)
    else:
        message.error_message = reply.refusal.text
        with suppress(RequestError):  # what cannot be read has no id
            message.infer_response.id = InferMessage.read(data).id
    message.infer_response.parameters[
        "triton_final_response"
    ].bool_param = True  # there is one answer a request
    content: bytes = message.SerializeToString()
    return content


def _shared_memory_methods(shared_memory: SharedMemory | None) -> Sequence[Method]:
    if shared_memory is None:
        why = "shared memory is not used by this server (setting shared_memory_prefix)"
        names = [
            f"{kind}SharedMemory{verb}" for kind in ("System", "Cuda") for verb in ("Status", "Unregister")
        ]
        return [_refused(name, why) for name in ("SystemSharedMemoryRegister", *names)]
    routes = SharedMemoryRoutes(shared_memory)
    path, cuda = "/v2/systemsharedmemory", "/v2/cudasharedmemory"
    return (
        _method(
            *("SystemSharedMemoryStatus", "GET", f"{path}/status", routes.status, _regions),
            place=lambda message: (f"{path}/status", (message.name,) if message.name else ()),
        ),
        _method(
            *("SystemSharedMemoryRegister", "POST", f"{path}/register", routes.register, _empty),
            place=lambda message: (f"{path}/register", (message.name,)),
            body=_region,
        ),
        _method(
            *("SystemSharedMemoryUnregister", "POST", f"{path}/unregister", routes.unregister, _empty),
            place=lambda message: (f"{path}/unregister", (message.name,) if message.name else ()),
        ),
        _method(
            *("CudaSharedMemoryStatus", "GET", f"{cuda}/status", routes.no_cuda_status, _regions),
            place=lambda message: (f"{cuda}/status", (message.name,) if message.name else ()),
        ),
        _method(
            "CudaSharedMemoryUnregister", "POST", f"{cuda}/unregister", routes.no_cuda_unregister, _empty
        ),
    )


def _refused(name: str, why: str) -> Method:
    return refused_method(f"/{_SERVICE}/{name}", "POST", "/v2/sharedmemory", why)


_Convert = Callable[[Any, Reply], bytes]


def _method(name: str, verb: str, path: str, handler: Any, convert: _Convert, **more: Any) -> Method:
    request = message_class(f"inference.{name}Request")
    response = message_class(f"inference.{name}Response")
    full = f"/{_SERVICE}/{name}"
    return plain_method(full, verb, path, request, handler, lambda reply: convert(response, reply), **more)


def _place(end: str = "", *, everything: bool = False) -> Callable[[Any], tuple[str, tuple[str, ...]]]:
    """Where V2's call about the model of a message goes, and its arguments.

    Args:
        end: of the path.
        everything: whether a message without a name asks about all models.
    """

    def place(message: Any) -> tuple[str, tuple[str, ...]]:
        name, version = message.name, message.version
        if not name and everything:
            return f"/v2/models{end}", ()
        if not name:
            raise RequestError(_NO_NAME)
        return model_path(name, version, end), (name, version) if version else (name,)

    return place


def _repository_place(verb: str) -> Callable[[Any], tuple[str, tuple[str, ...]]]:
    def place(message: Any) -> tuple[str, tuple[str, ...]]:
        name = message.model_name
        if not name:
            raise RequestError(_NO_NAME)
        return f"/v2/repository{model_path(name, '').removeprefix('/v2')}/{verb}", (name,)

    return place


def _from_json(response: Any, reply: Reply) -> bytes:
    """The message with the fields of a JSON object."""
    return _of_document(response, orjson.loads(reply.body))


def _of_document(response: Any, document: dict[str, Any]) -> bytes:
    content: bytes = ParseDict(document, response(), ignore_unknown_fields=True).SerializeToString()
    return content


def _ready(response: Any, reply: Reply) -> bytes:
    return _of_document(response, {"ready": reply.status == HTTPStatus.OK})


def _config(response: Any, reply: Reply) -> bytes:
    return _of_document(response, {"config": orjson.loads(reply.body)})


def _index(response: Any, reply: Reply) -> bytes:
    return _of_document(response, {"models": orjson.loads(reply.body)})


def _empty(response: Any, _reply: Reply) -> bytes:
    return _of_document(response, {})


def _regions(response: Any, reply: Reply) -> bytes:
    return _of_document(response, {"regions": {one["name"]: one for one in orjson.loads(reply.body)}})


def _region(message: Any) -> bytes:
    return orjson.dumps({"key": message.key, "offset": message.offset, "byte_size": message.byte_size})


def _only_ready(message: Any) -> bytes:
    return orjson.dumps({"ready": message.ready})


def _load_parameters(message: Any) -> bytes:
    parameters = {}
    for name, one in message.parameters.items():
        which = one.WhichOneof("parameter_choice")
        value = getattr(one, which) if which is not None else None
        # a file: V2's JSON has base64 text in its place
        parameters[name] = b64encode(value).decode() if isinstance(value, bytes) else value
    return orjson.dumps({"parameters": parameters})


def _trace_body(message: Any) -> bytes:
    """The settings as V2's JSON has them; without any, a question."""
    if message.model_name:
        raise NotSupported("traces by model are not supported: leave model_name empty")
    settings: dict[str, Any] = {}
    for name, setting in message.settings.items():
        values = list(setting.value)
        if name == "trace_level":
            settings[name] = values or None
        elif name == "stack_rate" and len(values) == 1 and _DIGITS.fullmatch(values[0]):
            settings[name] = int(values[0])
        else:
            settings[name] = values[0] if len(values) == 1 else values or None
    return orjson.dumps(settings)


def _trace_settings(response: Any, reply: Reply) -> bytes:
    message = response()
    for name, value in orjson.loads(reply.body).items():
        message.settings[name].value.extend(value if isinstance(value, list) else [str(value)])
    content: bytes = message.SerializeToString()
    return content


def _log_body(message: Any) -> bytes:
    settings = {}
    for name, setting in message.settings.items():
        which = setting.WhichOneof("parameter_choice")
        settings[name] = getattr(setting, which) if which is not None else None
    return orjson.dumps(settings)


def _log_settings(response: Any, reply: Reply) -> bytes:
    message = response()
    for name, value in orjson.loads(reply.body).items():
        setting = message.settings[name]
        if isinstance(value, bool):
            setting.bool_param = value
        elif isinstance(value, int):
            setting.uint32_param = value
        else:
            setting.string_param = value
    content: bytes = message.SerializeToString()
    return content
