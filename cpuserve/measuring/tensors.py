"""Makes infer requests with binary data for a model's own inputs."""

from __future__ import annotations

import http.client
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cpuserve.errors import CpuserveError, UsageError
from cpuserve.measuring.load_window import Target
from cpuserve.measuring.pictures import PictureFiles

__all__ = ["infer_body", "tensors"]

_TYPES = {
    **{f"INT{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
}
_TIMEOUT_S = 60


@contextmanager
def tensors(target: Target, batch: int) -> Iterator[tuple[PictureFiles, Target]]:
    """One infer request for a model at ``target``, with the inputs that its metadata name.

    Args:
        target: the server; its path ends in ``/v2/models/NAME/infer``.
        batch: rows of the request.

    Yields:
        What is sent, and the target with the headers it needs.

    Raises:
        UsageError: an input whose shape or type leaves open what to send.
        CpuserveError: the server does not tell the model's inputs.
    """
    inputs = _inputs(target)
    body, length = infer_body(inputs, batch)
    shapes = ", ".join(f"{one['datatype']} {_shape(one, batch)}" for one in inputs)
    with tempfile.TemporaryDirectory(prefix="cpuserve-bench-") as place:
        file = Path(place) / "infer.bin"
        file.write_bytes(body)
        headers = {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(length),
        }
        yield PictureFiles(f"one made tensor, binary: {shapes}", (file,)), replace(target, headers=headers)


def infer_body(inputs: Sequence[Mapping[str, Any]], batch: int) -> tuple[bytes, int]:
    """An infer request of the Open Inference Protocol with binary data in and out; seeded noise.

    Args:
        inputs: ``name``, ``datatype`` and ``shape`` (a first side of -1 is the batch), as metadata have them.
        batch: rows.

    Returns:
        The body, and the length of its JSON.

    Raises:
        UsageError: an input whose shape or type leaves open what to send.
    """
    dice = np.random.default_rng(0)
    entries, buffers = [], []
    for one in inputs:
        shape, dtype = _shape(one, batch), np.dtype(_TYPES.get(one["datatype"], np.object_))
        if dtype == np.object_ or any(side < 0 for side in shape):
            raise UsageError(
                f"input {one['name']!r} is {one['datatype']} {one['shape']}: no tensor can be made for it; "
                "give the model a static shape of numbers (setting shape), or send pictures"
            )
        data = (255 * dice.random(shape)).astype(dtype).tobytes()
        buffers.append(data)
        entries.append(
            {
                "name": one["name"],
                "datatype": one["datatype"],
                "shape": shape,
                "parameters": {"binary_data_size": len(data)},
            }
        )
    head = json.dumps({"inputs": entries, "parameters": {"binary_data_output": True}}).encode()
    return b"".join([head, *buffers]), len(head)


def _shape(one: Mapping[str, Any], batch: int) -> list[int]:
    """The shape of a request: of ``batch`` rows, or the model's own where it has no batch.

    Raises:
        UsageError: several rows for a model without a batch.
    """
    shape: list[int] = one["shape"]
    if shape[:1] == [-1]:
        return [batch, *shape[1:]]
    if batch != 1:
        raise UsageError(
            f"input {one['name']!r} is {one['datatype']} {shape}: the model has no batch, so a request "
            f"cannot have {batch} rows"
        )
    return shape


def _inputs(target: Target) -> list[dict[str, Any]]:
    path = target.path.removesuffix("/infer")
    connection = http.client.HTTPConnection(target.host, target.port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status == http.client.OK:
            found: list[dict[str, Any]] = json.loads(text)["inputs"]
            return found
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise CpuserveError(
            f"http://{target.host}:{target.port}{path} does not tell inputs: {error}"
        ) from error
    finally:
        connection.close()
    raise CpuserveError(f"http://{target.host}:{target.port}{path} answered {answer.status}: {text[:200]!r}")
