"""The Open Inference Protocol ("KServe V2"): health, metadata and infer routes."""

from __future__ import annotations

import math

import cpuserve
from cpuserve.errors import RequestError
from cpuserve.protocols.call import Call, Reply, json_reply
from cpuserve.protocols.inference import infer_outputs
from cpuserve.protocols.scaled_frames import EXTENSION, picture_input_text
from cpuserve.protocols.shared_memory import SharedMemory
from cpuserve.protocols.tensor import Tensor, datatype_of
from cpuserve.protocols.v2_body import InferBody, infer_reply_body, parse_infer
from cpuserve.serving.engine import Port
from cpuserve.serving.picture_header import is_picture
from cpuserve.serving.pipeline import Pipeline
from cpuserve.serving.pool import Pool

__all__ = ["V2"]

_EXTENSIONS = [
    *("binary_tensor_data", "classification", "logging", "model_configuration", "model_repository"),
    *("parameters", EXTENSION, "statistics", "trace"),
]
_MAX_BATCH_SIZE = 8
_PICTURE_AXES = 3


class V2:
    """The protocol's routes over one worker's models."""

    def __init__(self, pool: Pool, shared_memory: SharedMemory | None = None) -> None:
        self._pool = pool
        self._shared_memory = shared_memory

    def server(self, _call: Call) -> Reply:
        """``GET /v2``: name, version and extensions of the server."""
        extensions = [*_EXTENSIONS, "system_shared_memory"] if self._shared_memory else _EXTENSIONS
        return json_reply({"name": "cpuserve", "version": cpuserve.__version__, "extensions": extensions})

    def live(self, _call: Call) -> Reply:
        """``GET /v2/health/live``: 200 while the worker answers."""
        return json_reply({"live": True})

    def ready(self, _call: Call) -> Reply:
        """``GET /v2/health/ready``: 200 when models answer, else 503, with what is missing.

        Once all models were tried, one that answers is enough; with `strict_readiness` all have to.
        """
        pool = self._pool
        missing = {
            name: "; ".join(model.reason or model.state.lower() for model in versions.values())
            for name, versions in pool.models.items()
            if not any(model.pipeline for model in versions.values())
        }
        missing |= pool.problems
        if pool.ready:
            return json_reply({"ready": True, **({"models": missing} if missing else {})})
        for is_so, reason in (
            (pool.stopping, "the server is stopping"),
            (pool.dead, "models are loaded no longer: the log says why"),
            (pool.stuck, "loading a model hangs"),
            (not missing, "no model is served"),
        ):
            if is_so:
                return json_reply({"ready": False, "reason": reason}, 503, Retry_After="1")
        return json_reply({"ready": False, "models": missing}, 503, Retry_After="1")

    def model_ready(self, _call: Call, model: str, version: str | None = None) -> Reply:
        """``GET /v2/models/MODEL[/versions/VERSION]/ready``."""
        pipeline = self._pool.get(model, version)
        return json_reply({"name": pipeline.name, "ready": True})

    def metadata(self, _call: Call, model: str, version: str | None = None) -> Reply:
        """``GET /v2/models/MODEL[/versions/VERSION]``: inputs and outputs; -1 varies."""
        pipeline = self._pool.get(model, version)
        return json_reply(
            {
                "name": pipeline.name,
                "versions": [str(number) for number in self._pool.ready_versions(pipeline.name)],
                "platform": "OpenVINO",
                "inputs": [_port_metadata(port) for port in pipeline.inputs],
                "outputs": [_port_metadata(port) for port in pipeline.outputs],
            }
        )

    def config(self, _call: Call, model: str, version: str | None = None) -> Reply:
        """``GET /v2/models/MODEL[/versions/VERSION]/config``: Triton's ModelConfig of the model."""
        pipeline = self._pool.get(model, version)
        sizes = list(pipeline.batcher.engine.sizes)
        batched, picture_input = pipeline.batch.free, picture_input_text(pipeline)
        most = sizes[-1] if len(sizes) > 1 else _MAX_BATCH_SIZE
        batching = {
            "dynamic_batching": {
                "preferred_batch_size": sizes,
                "max_queue_delay_microseconds": round(pipeline.batcher.delay_us),
            }
        }
        return json_reply(
            {
                "name": pipeline.name,
                "platform": "",
                "backend": "openvino",
                "version_policy": self._pool.version_policy(pipeline.name).document(),
                # larger requests are cut, so one that is compiled for single rows takes many all the same
                "max_batch_size": most if batched else 0,
                "input": [
                    {
                        **_port_config(port, batched=batched),
                        "format": _picture_format(pipeline, port),
                        "is_shape_tensor": False,
                        "allow_ragged_batch": False,
                        "optional": False,
                    }
                    for port in pipeline.inputs
                ],
                "output": [
                    {**_port_config(port, batched=batched), "label_filename": "", "is_shape_tensor": False}
                    for port in pipeline.outputs
                ],
                "instance_group": [
                    {
                        "name": f"{pipeline.name}_0",
                        "kind": "KIND_CPU",
                        "count": pipeline.batcher.engine.streams,
                    }
                ],
                **(batching if batched else {}),
                "model_transaction_policy": {"decoupled": False},
                # and OpenVINO's properties in force, by the names Triton's OpenVINO backend has for them
                "parameters": {
                    name: {"string_value": text}
                    for name, text in {
                        "sha256": pipeline.checksum,
                        "version": str(pipeline.version),
                        **({"picture_input": picture_input} if picture_input else {}),
                        **({"decode": pipeline.decode} if pipeline.decode else {}),
                        **pipeline.batcher.engine.read_back(),
                        "precision_reason": pipeline.precision_reason,
                        **self._pool.rollouts.texts(pipeline.name),
                    }.items()
                },
            }
        )

    def infer(self, call: Call, model: str, version: str | None = None) -> Reply:
        """``POST /v2/models/MODEL[/versions/VERSION]/infer``: tensors, or pictures as BYTES.

        ``Inference-Header-Content-Length: 0`` makes the whole body one picture, or the only tensor.
        """
        pipeline = self._pool.pick(model, version, call.headers)
        header_length = call.headers.get("inference-header-content-length")
        body = call.body()
        request = call.request()
        if header_length == "0":
            asked = InferBody([_raw(pipeline, body)], binary=True)
        else:
            asked = parse_infer(body, header_length, call.read_json)
        outputs = infer_outputs(pipeline, asked, request, call, self._shared_memory)
        head = {"model_name": pipeline.name, "model_version": str(pipeline.version)}
        if asked.id is not None:
            head["id"] = asked.id
        content, json_length = infer_reply_body(head, outputs)
        headers = [("Server-Timing", request.server_timing())]
        if json_length is None:
            return Reply(200, content, [("Content-Type", "application/json"), *headers])
        headers.append(("Inference-Header-Content-Length", str(json_length)))
        return Reply(200, content, [("Content-Type", "application/octet-stream"), *headers])


def _raw(pipeline: Pipeline, body: memoryview) -> Tensor:
    """A body without a JSON header as the only input: a picture, or the bytes of its tensor.

    Raises:
        RequestError: the model has several inputs, or the bytes do not fill its shape.
    """
    port = pipeline.inputs[0]
    if pipeline.pictures is not None and (is_picture(body) or not _fills(port, body.nbytes)):
        return Tensor(port.names[0], "BYTES", (1,), [body])
    if len(pipeline.inputs) > 1:
        raise RequestError(
            f"model {pipeline.name} has {len(pipeline.inputs)} inputs; a body without a JSON header "
            "(Inference-Header-Content-Length: 0) is the data of one"
        )
    shape = _raw_shape(port, body.nbytes)
    return Tensor(port.names[0], datatype_of(port.dtype), shape, body)


def _fills(port: Port, size: int) -> bool:
    known = port.dtype.itemsize * math.prod(port.row_shape)
    return size > 0 and known > 0 and (size % known == 0 if port.outer == (-1,) else size == known)


def _raw_shape(port: Port, size: int) -> tuple[int, ...]:
    """The shape of a tensor sent without one: its batch, or else the one size that varies, by its bytes."""
    shape = [1, *port.row_shape] if -1 in port.row_shape and port.outer == (-1,) else list(port.shape)
    known = port.dtype.itemsize * math.prod(side for side in shape if side >= 0)
    varying = shape.count(-1)
    if varying > 1 or not size or not known or (size % known if varying else size != known):
        raise RequestError(
            f"input {port.names[0]!r}: {size} bytes without a JSON header fill no shape "
            f"{list(port.shape)} of {datatype_of(port.dtype)}; send the header with the shape"
        )
    return tuple(size // known if side < 0 else side for side in shape)


def _picture_format(pipeline: Pipeline, port: Port) -> str:
    """Triton's word for the order of a picture's axes; FORMAT_NONE for what is no picture."""
    if pipeline.pictures is None or len(port.row_shape) != _PICTURE_AXES:
        return "FORMAT_NONE"
    layout = "".join(letter for letter in pipeline.card.layout.upper() if letter.isalpha())
    if layout not in ("NHWC", "NCHW"):
        layout = "NHWC" if port.row_shape[2] in (1, 3) else "NCHW"
    return f"FORMAT_{layout}"


def _port_metadata(port: Port) -> dict[str, object]:
    return {"name": port.names[0], "datatype": datatype_of(port.dtype), "shape": list(port.shape)}


def _port_config(port: Port, *, batched: bool) -> dict[str, object]:
    datatype = datatype_of(port.dtype)
    return {
        "name": port.names[0],
        "data_type": f"TYPE_{'STRING' if datatype == 'BYTES' else datatype}",
        "dims": list(port.row_shape if batched else port.shape),
    }
