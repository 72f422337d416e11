"""TensorFlow Serving's PredictionService and ModelService, as far as its clients need them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import orjson
from google.protobuf.json_format import ParseDict

from cpuserve.errors import RequestError
from cpuserve.grpc.messages import message_class, parse
from cpuserve.grpc.method import Method, Task, model_path, plain_method, refused_method
from cpuserve.grpc.values_left import ValuesLeft
from cpuserve.grpc.wire import BYTES, wire_fields
from cpuserve.models.rollout import LABEL
from cpuserve.protocols.call import Call, Reply, answer
from cpuserve.protocols.client_limits import ClientLimits
from cpuserve.protocols.inference import infer_outputs
from cpuserve.protocols.tensor import MOST_DIMENSIONS, ONLY_PICTURES, Tensor, datatype_of
from cpuserve.protocols.tfs import TensorFlowServing
from cpuserve.protocols.v2_body import InferBody, OutputWanted
from cpuserve.serving.engine import Array
from cpuserve.serving.pool import Pool

__all__ = ["TensorFlowService"]

_PREDICTION, _MODEL = "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"
_PredictRequest = message_class("tensorflow.serving.PredictRequest")
_PredictResponse = message_class("tensorflow.serving.PredictResponse")
_MetadataRequest = message_class("tensorflow.serving.GetModelMetadataRequest")
_MetadataResponse = message_class("tensorflow.serving.GetModelMetadataResponse")
_SignatureDefMap = message_class("tensorflow.serving.SignatureDefMap")
_StatusRequest = message_class("tensorflow.serving.GetModelStatusRequest")
_StatusResponse = message_class("tensorflow.serving.GetModelStatusResponse")
_INPUTS, _VALUE, _SHAPE = 2, 2, 2  # fields of a request, an entry of its inputs, a tensor
_EXAMPLES = ("Classify", "Regress", "MultiInference")
_TENSORS = "models here take tensors and pictures, no tf.Example: ask for Predict"
_RELOAD = (
    "models are those of the repository or of the config.json, which POST /v1/config/reload reads again; "
    "over gRPC, inference.GRPCInferenceService/RepositoryModelLoad loads one"
)
_DT_STRING, _HALF = 7, 19
_LEAST_HALF, _MOST_HALF = -0x8000, 0xFFFF  # clients write the 16 bits with a sign or without
_FLOATS = {1: np.float32, 2: np.float64}
_TYPES = {  # number of the type: V2's name, and the field of its values
    1: ("FP32", "float_val"),
    2: ("FP64", "double_val"),
    3: ("INT32", "int_val"),
    4: ("UINT8", "int_val"),
    5: ("INT16", "int_val"),
    6: ("INT8", "int_val"),
    9: ("INT64", "int64_val"),
    10: ("BOOL", "bool_val"),
    17: ("UINT16", "int_val"),
    _HALF: ("FP16", "half_val"),
    22: ("UINT32", "uint32_val"),
    23: ("UINT64", "uint64_val"),
}
_NUMBERS = {datatype: number for number, (datatype, _) in _TYPES.items()}


class TensorFlowService:
    """The methods over one worker's models.

    Args:
        pool: the models.
    """

    services = (_PREDICTION, _MODEL)

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._routes = TensorFlowServing(pool)

    def methods(self) -> Sequence[Method]:
        """All methods of both services."""
        return (
            Method(f"/{_PREDICTION}/Predict", "POST", "/v1/models/-:predict", self._predict),
            plain_method(
                *(f"/{_PREDICTION}/GetModelMetadata", "GET", "/v1/models/-/metadata", _MetadataRequest),
                *(self._routes.metadata, _metadata),
                place=_metadata_place,
            ),
            plain_method(
                *(f"/{_MODEL}/GetModelStatus", "GET", "/v1/models/-", _StatusRequest),
                *(self._routes.status, _status),
                place=lambda message: _place(message.model_spec, ""),
            ),
            *(
                refused_method(f"/{_PREDICTION}/{name}", "POST", "/v1/models/-:predict", _TENSORS)
                for name in _EXAMPLES
            ),
            refused_method(f"/{_MODEL}/HandleReloadConfigRequest", "POST", "/v1/config/reload", _RELOAD),
        )

    def _predict(self, data: bytes) -> Task:
        _check_structure(memoryview(data))
        message = parse(_PredictRequest, data, most_bytes=len(data))
        path, _ = _place(message.model_spec, ":predict")
        run = partial(self._run, message)
        return Task(path, lambda call: answer(run, call), infers=True)

    def _run(self, message: Any, call: Call) -> Reply:
        _, arguments = _place(message.model_spec, "")
        name, *versions = arguments
        pipeline = self._pool.pick(name, versions[0] if versions else None, call.headers)
        request = call.request()
        outputs = [OutputWanted(name, True) for name in dict.fromkeys(message.output_filter)]
        asked = InferBody(_tensors(message.inputs, call.limits), outputs)
        if not asked.inputs:
            raise RequestError("the request needs at least one of inputs")
        response = _PredictResponse()
        for name, values, _ in infer_outputs(pipeline, asked, request, call):
            _put(response.outputs[name], values)
        call.alone = not pipeline.batcher.gathers
        response.model_spec.name = pipeline.name
        response.model_spec.version.value = pipeline.version
        response.model_spec.signature_name = message.model_spec.signature_name
        timing = [("Server-Timing", request.server_timing())]
        return Reply(200, response.SerializeToString(), timing)


def _place(spec: Any, end: str) -> tuple[str, tuple[str, ...]]:
    """The path of the HTTP call about a model, and its name and version, or the version's label.

    Raises:
        RequestError: there is no name, or what is given as a label can be none.
    """
    if not spec.name:
        raise RequestError("model_spec needs the name of a model")
    which = spec.WhichOneof("version_choice")
    if which == "version_label":
        if not LABEL.fullmatch(spec.version_label):
            raise RequestError(
                f"version_label {spec.version_label[:80]!r} is no label: those begin with a letter"
            )
        path = model_path(spec.name, spec.version_label, end).replace("/v2/", "/v1/", 1)
        return path.replace("/versions/", "/labels/", 1), (spec.name, spec.version_label)
    version = str(spec.version.value) if which == "version" else ""
    path = model_path(spec.name, version, end).replace("/v2/", "/v1/", 1)
    return path, (spec.name, version) if version else (spec.name,)


def _metadata_place(message: Any) -> tuple[str, tuple[str, ...]]:
    for field in message.metadata_field:
        if field != "signature_def":
            raise RequestError(f"there is no metadata_field {field[:80]!r} here: ask for 'signature_def'")
    return _place(message.model_spec, "/metadata")


def _check_structure(data: memoryview) -> None:
    """Refuse a request with more parts than protobuf should make objects of.

    Raises:
        RequestError: a part of it has more than 4,096 fields, or is no message.
    """
    for inputs in _parts(data, _INPUTS):
        for part in _parts(inputs, _VALUE):
            for shape in _parts(part, _SHAPE):
                for _ in wire_fields(shape):
                    pass


def _parts(data: memoryview, number: int) -> list[memoryview]:
    return [
        data[value:end]
        for found, wire, _, value, end in wire_fields(data)
        if found == number and wire == BYTES
    ]


def _tensors(inputs: Mapping[str, Any], limits: ClientLimits) -> list[Tensor]:
    """The inputs, within the values that all together may have: a few bytes may stand for many.

    Raises:
        RequestError: one is no tensor of this server, or has pictures beside another.
        TooManyElements: there are more values than the server makes an array of.
    """
    left = ValuesLeft(limits.max_json_elements, "tensor_content")
    for name, sent in inputs.items():
        if sent.dtype == _DT_STRING and len(inputs) > 1:
            raise RequestError(f"input {name[:80]!r}: {ONLY_PICTURES}")
    return [_tensor(name, sent, left) for name, sent in inputs.items()]


def _tensor(name: str, sent: Any, left: ValuesLeft) -> Tensor:
    if len(sent.tensor_shape.dim) > MOST_DIMENSIONS:
        raise RequestError(f"input {name[:80]!r}: a tensor may have at most {MOST_DIMENSIONS} dimensions")
    if sent.tensor_shape.unknown_rank:
        raise RequestError(f"input {name[:80]!r} needs a shape, not unknown_rank")
    shape = tuple(dim.size for dim in sent.tensor_shape.dim)
    if any(size < 0 for size in shape):
        raise RequestError(f"input {name[:80]!r} needs a shape of whole numbers, not {list(shape)}")
    if sent.dtype == _DT_STRING:
        shape = shape or (len(sent.string_val),)
        pictures = [memoryview(one) for one in sent.string_val]
        return Tensor(name, "BYTES", shape, _all_values(name, "string_val", pictures, shape, left))
    if sent.dtype not in _TYPES:
        raise RequestError(f"input {name[:80]!r}: its dtype {sent.dtype} cannot be served")
    datatype, field = _TYPES[sent.dtype]
    if sent.tensor_content:
        return Tensor(name, datatype, shape, memoryview(sent.tensor_content))
    values = _all_values(name, field, getattr(sent, field), shape, left)
    return Tensor(name, datatype, shape, _numbers(name, sent.dtype, values))


def _all_values(
    name: str, field: str, sent: Sequence[Any], shape: tuple[int, ...], left: ValuesLeft
) -> list[Any]:
    """The values of a field; as in TensorFlow the last one stands for all that are left out.

    Raises:
        RequestError: they are more than the shape has, or none.
        TooManyElements: there are more than the server makes an array of.
    """
    wanted = math.prod(shape)
    left_out = wanted - len(sent) if sent else 0
    count = len(sent) + max(0, left_out)
    left.take(name[:80], count, f"values in {field}")
    if count != wanted:
        raise RequestError(
            f"input {name[:80]!r}: shape {list(shape)} takes {wanted} values, "
            f"{len(sent)} were sent in {field}"
        )
    return [*sent, *[sent[-1]] * left_out] if left_out > 0 else list(sent)


def _numbers(name: str, dtype: int, values: list[Any]) -> list[Any] | memoryview:
    """The values; those of half precision are sent as the numbers of their bits.

    Floats may be infinite or none, as in tensor_content: only in JSON they may not.

    Raises:
        RequestError: a number of half precision has more bits.
    """
    if dtype in _FLOATS:
        return memoryview(np.array(values, _FLOATS[dtype]).tobytes())
    if dtype != _HALF:
        return values
    bits = np.array(values, np.int64)
    if (wrong := bits[(bits < _LEAST_HALF) | (bits > _MOST_HALF)]).size:
        raise RequestError(f"input {name[:80]!r}: {wrong[0]} in half_val is no number of 16 bits")
    return memoryview(bits.astype(np.uint16).tobytes())


def _put(tensor: Any, values: Array) -> None:
    tensor.dtype = _NUMBERS[datatype_of(values.dtype)]
    for size in values.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = np.ascontiguousarray(values).tobytes()


def _metadata(reply: Reply) -> bytes:
    document = orjson.loads(reply.body)
    response = _MetadataResponse()
    ParseDict(document["model_spec"], response.model_spec)
    signature = ParseDict(document["metadata"]["signature_def"], _SignatureDefMap())
    response.metadata["signature_def"].Pack(signature)
    content: bytes = response.SerializeToString()
    return content


def _status(reply: Reply) -> bytes:
    document = orjson.loads(reply.body)
    content: bytes = ParseDict(document, _StatusResponse(), ignore_unknown_fields=True).SerializeToString()
    return content
