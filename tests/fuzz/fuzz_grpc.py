"""Messages of gRPC: `python -W error -m tests.fuzz grpc -max_total_time=605`.

An input is a byte that says which method is called, and the message. It goes the way it goes in a worker,
from the method's reader to the bytes of the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import numpy as np

from cpuserve.errors import CpuserveError, RequestError
from cpuserve.grpc.grpc_call import MessageCall
from cpuserve.grpc.messages import message_class
from cpuserve.grpc.method import Method
from cpuserve.grpc.methods import all_methods
from cpuserve.protocols.admin import Admin
from cpuserve.protocols.call import Refusal, error_reply
from cpuserve.protocols.client_limits import ClientLimits
from cpuserve.protocols.shared_memory import SharedMemory
from cpuserve.serving.log import LogSwitches
from cpuserve.serving.trace_ring import TraceRing
from tests.fuzz.message_mutator import mutate_message
from tests.protocols.fakes import Pipeline, Pool

_LIMITS = ClientLimits(max_body_bytes=1 << 20, max_json_elements=1000, max_answer_bytes=1 << 20)
_NEED_A_SERVER = (
    "Repository",
    "ModelStatistics",
    "GetModelStatus",
)  # of several workers, with their counters


class _Checked(Pipeline):
    """A model that refuses rows of other sizes, as those of OpenVINO do."""

    def infer(self, tensors: Sequence[Any], request: Any) -> list[Any]:
        a, b = tensors
        if a.shape != b.shape or a.shape[1:] != (3,):
            raise RequestError("rows have 3 numbers")
        found: list[Any] = super().infer(tensors, request)
        return found


def _methods() -> list[Method]:
    pool: Any = Pool()
    pool.pipeline = pool.models["m"][2].pipeline = _Checked()
    admin = Admin(None, LogSwitches("info"), TraceRing(rows=1))
    methods = all_methods(pool, admin, SharedMemory("cpufuzz-none-"))
    return sorted(
        (one for one in methods if not any(word in one.name for word in _NEED_A_SERVER)),
        key=lambda one: one.name,
    )


METHODS = _methods()
_NAMES = [method.name.rpartition("/")[2] for method in METHODS]


def one(data: bytes) -> None:
    method, message = METHODS[data[0] % len(METHODS) if data else 0], data[1:]
    call = MessageCall(method.verb, method.path, "", {}, b"", _LIMITS, "10.0.0.1", "10.0.0.1")
    try:
        task = method.read(message)
        call.path = task.path
        reply = task.handler(call)
    except CpuserveError as error:
        reply = error_reply(error)
    assert reply.refusal is None or reply.refusal.grpc_code != "INTERNAL", (method.name, reply.refusal)
    if method.wrap is not None:
        wrapped = method.wrap(message, reply)
        assert isinstance(wrapped, bytes | Refusal)


def mutate(data: bytes, most: int, seed: int, change: Callable[[bytes, int], bytes]) -> bytes:
    random = Random(seed)  # noqa: S311  # it has to be repeatable, not secret
    if len(data) < 2 or random.random() < 0.1:
        return change(data, most)
    kind, message = data[:1], data[1:]
    for _ in range(random.randint(1, 3)):
        message = mutate_message(message, random, change, most)
    return (kind + message)[:most]


def _input(method: str, message: Any) -> bytes:
    return bytes([_NAMES.index(method), *message.SerializeToString()])


def seeds() -> list[bytes]:
    rows = np.ones((2, 3), np.float32).tobytes()
    request = message_class("inference.ModelInferRequest")
    infer = request(
        model_name="m",
        id="1",
        parameters={"priority": {"uint64_param": 2}, "timeout": {"int64_param": 5_000_000}},
        inputs=[
            {"name": "a", "datatype": "FP32", "shape": [2, 3], "contents": {"fp32_contents": [1] * 6}},
            {"name": "b", "datatype": "UINT8", "shape": [2, 3], "contents": {"uint_contents": [1] * 6}},
        ],
        outputs=[{"name": "sum", "parameters": {"classification": {"int64_param": 2}}}],
    )
    place = {
        "shared_memory_region": {"string_param": "r"},
        "shared_memory_byte_size": {"int64_param": 24},
        "shared_memory_offset": {"int64_param": 0},
    }
    entry = {"name": "a", "datatype": "FP32", "shape": [2, 3]}
    shared = request(
        model_name="m",
        inputs=[{**entry, "parameters": place}],
        outputs=[{"name": "sum", "parameters": place}],
    )
    pictures = request(
        model_name="m",
        inputs=[
            {"name": "a", "datatype": "BYTES", "shape": [2], "contents": {"bytes_contents": [b"x", b"yy"]}}
        ],
    )
    shape = {"dim": [{"size": 2}, {"size": 3}]}
    predict = message_class("tensorflow.serving.PredictRequest")(
        model_spec={"name": "m", "version": {"value": 2}},
        inputs={
            "a": {"dtype": 1, "tensor_shape": shape, "tensor_content": rows},
            "b": {"dtype": 4, "tensor_shape": shape, "int_val": [1] * 6},
        },
        output_filter=["sum"],
    )
    texts = message_class("tensorflow.serving.PredictRequest")(
        model_spec={"name": "m"}, inputs={"a": {"dtype": 7, "string_val": [b"x", b"yy"]}}
    )
    half = message_class("tensorflow.serving.PredictRequest")(
        model_spec={"name": "m"}, inputs={"a": {"dtype": 19, "tensor_shape": shape, "half_val": [1] * 6}}
    )
    inference: dict[str, dict[str, Any]] = {
        "ModelReady": {"name": "m", "version": "2"},
        "ModelMetadata": {"name": "m"},
        "ModelConfig": {"name": "m"},
        "LogSettings": {
            "settings": {"log_verbose_level": {"uint32_param": 1}, "log_info": {"bool_param": True}}
        },
        "TraceSetting": {
            "settings": {"trace_level": {"value": ["TIMESTAMPS"]}, "trace_rate": {"value": ["9"]}}
        },
        "SystemSharedMemoryRegister": {"name": "r", "key": "/cpufuzz-none-a", "offset": 1, "byte_size": 8},
        "SystemSharedMemoryStatus": {"name": "r"},
        "SystemSharedMemoryUnregister": {"name": "r"},
        "ServerReady": {},
    }
    reflection = message_class("grpc.reflection.v1.ServerReflectionRequest")
    return [
        *(_input("ModelInfer", message) for message in (infer, shared, pictures)),
        *(_input("ModelStreamInfer", message) for message in (infer, pictures)),
        *(_input("Predict", message) for message in (predict, texts, half)),
        _input(
            "GetModelMetadata",
            message_class("tensorflow.serving.GetModelMetadataRequest")(
                model_spec={"name": "m"}, metadata_field=["signature_def"]
            ),
        ),
        _input("Check", message_class("grpc.health.v1.HealthCheckRequest")(service="")),
        *(
            _input("ServerReflectionInfo", reflection(host="h", **asked))
            for asked in (
                {"list_services": "*"},
                {"file_containing_symbol": "inference.ModelInferRequest"},
                {"file_by_filename": "inference.proto"},
            )
        ),
        *(
            _input(name, message_class(f"inference.{name}Request")(**fields))
            for name, fields in inference.items()
        ),
    ]
