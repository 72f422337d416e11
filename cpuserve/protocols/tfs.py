"""TensorFlow Serving's REST API (KServe v1): predict, status and metadata routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from cpuserve.errors import RequestError
from cpuserve.protocols.base64_text import decode_base64
from cpuserve.protocols.call import Call, Handler, Reply, check_pictures, json_reply
from cpuserve.protocols.tensor import numbers
from cpuserve.serving.engine import Array, Port
from cpuserve.serving.pipeline import Pipeline
from cpuserve.serving.pool import Pool
from cpuserve.serving.request import Request
from cpuserve.serving.version_loader import ModelState

__all__ = ["TensorFlowServing", "status_of_all"]

_DTYPES = {
    "bool": "DT_BOOL",
    "uint8": "DT_UINT8",
    "uint16": "DT_UINT16",
    "uint32": "DT_UINT32",
    "uint64": "DT_UINT64",
    "int8": "DT_INT8",
    "int16": "DT_INT16",
    "int32": "DT_INT32",
    "int64": "DT_INT64",
    "float16": "DT_HALF",
    "float32": "DT_FLOAT",
    "float64": "DT_DOUBLE",
}
_STATES = {"LOADING": "LOADING", "READY": "AVAILABLE", "UNAVAILABLE": "END"}


class TensorFlowServing:
    """The routes over one worker's models."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def by_label(self, handler: Handler) -> Handler:
        """A handler for ``/v1/models/MODEL/labels/LABEL...`` from that for ``.../versions/VERSION...``."""

        def handle(call: Call, model: str, label: str) -> Reply:
            return handler(call, model, self._pool.labelled(model, label))

        return handle

    def list_models(self, _call: Call) -> Reply:
        """``GET /v1/models``: the names, as KServe v1 lists them."""
        return json_reply({"models": sorted(self._pool.models)})

    def config(self, _call: Call) -> Reply:
        """``GET /v1/config``: OpenVINO Model Server's status of every version of every model."""
        return json_reply(status_of_all(self._pool))

    def status(self, _call: Call, model: str, version: str | None = None) -> Reply:
        """``GET /v1/models/MODEL[/versions/VERSION]``: whether it is ready, and the state of its versions."""
        known = self._pool.known(model, version)
        every = version in (None, "0")
        versions = self._pool.models.get(known.file.name, {}).values() if every else [known]
        ready = {"name": known.file.name, "ready": known.pipeline is not None}  # KServe v1's keys
        return json_reply({**ready, **_statuses(versions)})

    def metadata(self, _call: Call, model: str, version: str | None = None) -> Reply:
        """``GET /v1/models/MODEL[/versions/VERSION]/metadata``: inputs and outputs as a signature."""
        pipeline = self._pool.get(model, version)
        signature = {
            "inputs": {port.names[0]: _tensor_info(port) for port in pipeline.inputs},
            "outputs": {port.names[0]: _tensor_info(port) for port in pipeline.outputs},
            "method_name": "tensorflow/serving/predict",
        }
        return json_reply(
            {
                "model_spec": {
                    "name": pipeline.name,
                    "signature_name": "",
                    "version": str(pipeline.version),
                },
                "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
            }
        )

    def predict(self, call: Call, model: str, version: str | None = None) -> Reply:
        """``POST /v1/models/MODEL[/versions/VERSION]:predict``: rows or columns of tensors or pictures."""
        pipeline = self._pool.pick(model, version, call.headers)
        rows, sent = _parse(call.json())
        request = call.request()
        columns = _columns(pipeline, sent) if rows else _named(pipeline, sent)
        outputs = _run(pipeline, columns, request, call.limits.max_pictures)
        names = [port.names[0] for port in pipeline.outputs]
        found = {name: _plain(array) for name, array in zip(names, outputs, strict=True)}
        content: object
        if len(found) == 1:
            content = found[names[0]]
        elif rows:
            counts = {output.shape[:1] for output in outputs}
            if len(counts) != 1 or () in counts:
                raise RequestError(
                    f"the outputs of model {pipeline.name} are no rows of one number: send "
                    '"inputs" instead of "instances"'
                )
            count = outputs[0].shape[0]
            content = [{name: array[row] for name, array in found.items()} for row in range(count)]
        else:
            content = found
        body = orjson.dumps(
            {"predictions" if rows else "outputs": content}, option=orjson.OPT_SERIALIZE_NUMPY
        )
        return Reply(
            200, body, [("Content-Type", "application/json"), ("Server-Timing", request.server_timing())]
        )


def _plain(array: Array) -> Any:
    """The array, or the number of one without dimensions, which JSON has no list for."""
    return np.ascontiguousarray(array) if array.ndim else array.item()


def _parse(document: Any) -> tuple[bool, Any]:
    """Whether the request has the row form, and its instances or inputs."""
    if not isinstance(document, dict) or ("instances" in document) == ("inputs" in document):
        raise RequestError('the request is an object with either "instances" (rows) or "inputs" (columns)')
    if "instances" not in document:
        return False, document["inputs"]
    rows = document["instances"]
    if not isinstance(rows, list) or not rows:
        raise RequestError('"instances" is a list of at least one row')
    return True, rows


def _columns(pipeline: Pipeline, rows: Sequence[Any]) -> list[Any]:
    """One list of values an input, from rows."""
    by_name = [isinstance(row, dict) and not _is_picture(row) for row in rows]
    if not any(by_name):
        _only_input(pipeline)
        return [rows]
    if not all(by_name):
        raise RequestError("either all of the instances are objects by input name or none is")
    columns: list[list[Any]] = [[] for _ in pipeline.inputs]
    for place, row in enumerate(rows):
        for column, value in zip(columns, _named(pipeline, row, f"instance {place}"), strict=True):
            column.append(value)
    return columns


def _named(pipeline: Pipeline, sent: Any, where: str = "the request") -> list[Any]:
    """One value an input, from an object by input name or the bare value of the only input."""
    if not isinstance(sent, dict) or _is_picture(sent):
        _only_input(pipeline)
        return [sent]
    values: dict[int, Any] = {}
    for name, value in sent.items():
        for index, port in enumerate(pipeline.inputs):
            if name in port.names:
                values[index] = value
                break
        else:
            raise RequestError(
                f"{where}: there is no input {name[:80]!r}; the model's are: {_names(pipeline)}"
            )
    if len(values) != len(pipeline.inputs):
        raise RequestError(f"{where} does not have all of the inputs: {_names(pipeline)}")
    return [values[index] for index in range(len(values))]


def _only_input(pipeline: Pipeline) -> None:
    if len(pipeline.inputs) != 1:
        raise RequestError(f"model {pipeline.name} needs values by input name: {_names(pipeline)}")


def _names(pipeline: Pipeline) -> str:
    return ", ".join(port.names[0] for port in pipeline.inputs)


def _run(pipeline: Pipeline, columns: Sequence[Any], request: Request, max_pictures: int) -> list[Array]:
    if len(columns) == 1:
        items = columns[0] if isinstance(columns[0], list) else [columns[0]]
        if any(_is_picture(item) for item in items):
            check_pictures(len(items), max_pictures)
            return pipeline.infer_pictures([_picture(item) for item in items], request)
    tensors = [
        numbers(f"input {port.names[0]!r}", column, port.dtype)
        for port, column in zip(pipeline.inputs, columns, strict=True)
    ]
    return pipeline.infer(tensors, request)


def _is_picture(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"}


def _picture(value: Any) -> bytes:
    if not _is_picture(value) or not isinstance(value["b64"], str):
        raise RequestError('each picture is {"b64": TEXT}, and numbers may not stand among them')
    try:
        return decode_base64(value["b64"])
    except ValueError:
        raise RequestError('the text of "b64" is not base64') from None


def status_of_all(pool: Pool) -> dict[str, Mapping[str, Any]]:
    """Status of every version, newest first, by model."""
    models = pool.models
    return {name: _statuses(models[name].values()) for name in sorted(models)}


def _statuses(versions: Iterable[ModelState]) -> Mapping[str, Any]:
    newest_first = sorted(versions, key=lambda model: model.file.version, reverse=True)
    return {"model_version_status": [_status(model) for model in newest_first]}


def _status(model: ModelState) -> Mapping[str, Any]:
    failed = model.state == "UNAVAILABLE"
    return {
        "version": str(model.file.version),
        "state": _STATES[model.state],
        "status": {"error_code": "UNKNOWN" if failed else "OK", "error_message": model.reason},
    }


def _tensor_info(port: Port) -> Mapping[str, Any]:
    return {
        "dtype": _DTYPES[port.dtype.name],
        "tensor_shape": {
            "dim": [{"size": str(size), "name": ""} for size in port.shape],
            "unknown_rank": False,
        },
        "name": port.names[0],
    }
