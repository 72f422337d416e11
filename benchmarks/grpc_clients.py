"""Lets clients of others ask a server over gRPC, and compares their answers with those over HTTP.

Run as ``python -m benchmarks.grpc_clients [--grpcurl FILE] [--perf-analyzer FILE] [--tensorflow-serving DIR]
[--out FILE]``. The clients of packages that the tests need are always asked; DIR holds the packages
tensorflow_serving and tensorflow (of which its messages are enough).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.fixtures.simple_model import write_simple_model
from benchmarks.perf_analyzer import read_levels
from cpuserve.measuring.local_server import free_port, started_server
from cpuserve.measuring.results import write_result

__all__ = ["main"]

_WAIT_S = 60
_DIGITS = "probabilities"
_ROWS = {"INPUT0": np.arange(16, dtype=np.int32)[None], "INPUT1": np.ones((1, 16), np.int32)}
_SERVICE = "inference.GRPCInferenceService"


@dataclass(frozen=True)
class Asked:
    """A server that is asked.

    Attributes:
        grpc: its address for gRPC.
        http: its address for HTTP.
        picture: of a seven.
        expected: the bytes of every output, by name, as they come over HTTP.
    """

    grpc: str
    http: str
    picture: Path
    expected: Mapping[str, bytes]


def over_http(address: str, picture: Path) -> dict[str, bytes]:
    """The outputs of both models over HTTP, by name."""
    from tritonclient import http  # noqa: PLC0415

    client = http.InferenceServerClient(address)
    answers = [client.infer(model, inputs) for model, inputs in _requests(http, picture).items()]
    found = {
        output["name"]: answer.as_numpy(output["name"]).tobytes()
        for answer in answers
        for output in answer.get_response()["outputs"]
    }
    client.close()
    return found


def _requests(module: Any, picture: Path) -> dict[str, list[Any]]:
    """The inputs by model, as a module of tritonclient has them."""
    image = module.InferInput("image", [1], "BYTES")
    image.set_data_from_numpy(np.array([picture.read_bytes()], dtype=object))
    rows = [module.InferInput(name, [1, 16], "INT32") for name in _ROWS]
    for one, values in zip(rows, _ROWS.values(), strict=True):
        one.set_data_from_numpy(values)
    return {"digits": [image], "simple": rows}


def _of(answers: list[Any]) -> dict[str, bytes]:
    return {
        output.name: answer.as_numpy(output.name).tobytes()
        for answer in answers
        for output in answer.get_response().outputs
    }


def triton(asked: Asked) -> dict[str, bytes]:
    """tritonclient.grpc, one call after the other."""
    from tritonclient import grpc  # noqa: PLC0415

    with grpc.InferenceServerClient(asked.grpc) as client:
        return _of([client.infer(*one) for one in _requests(grpc, asked.picture).items()])


def triton_packed(asked: Asked) -> dict[str, bytes]:
    """The same with messages that are packed by gzip."""
    from tritonclient import grpc  # noqa: PLC0415

    with grpc.InferenceServerClient(asked.grpc) as client:
        requests = _requests(grpc, asked.picture).items()
        return _of([client.infer(*one, compression_algorithm="gzip") for one in requests])


def triton_stream(asked: Asked) -> dict[str, bytes]:
    """tritonclient.grpc by a stream."""
    from tritonclient import grpc  # noqa: PLC0415

    got: queue.Queue[Any] = queue.Queue()
    with grpc.InferenceServerClient(asked.grpc) as client:
        client.start_stream(lambda result, error: got.put(error or result))
        requests = _requests(grpc, asked.picture)
        for one in requests.items():
            client.async_stream_infer(*one)
        answers = [got.get(timeout=_WAIT_S) for _ in requests]
        client.stop_stream()
    return _of(answers)


def triton_asyncio(asked: Asked) -> dict[str, bytes]:
    """tritonclient.grpc.aio, all calls at once."""
    from tritonclient import grpc  # noqa: PLC0415
    from tritonclient.grpc import aio  # noqa: PLC0415

    async def ask() -> list[Any]:
        async with aio.InferenceServerClient(asked.grpc) as client:
            requests = _requests(grpc, asked.picture).items()
            return await asyncio.gather(*(client.infer(*one) for one in requests))

    return _of(asyncio.run(ask()))


def ovms(asked: Asked) -> dict[str, bytes]:
    """ovmsclient, which speaks TensorFlow Serving's gRPC."""
    import ovmsclient  # noqa: PLC0415

    client = ovmsclient.make_grpc_client(asked.grpc)
    found = {_DIGITS: client.predict({"image": [asked.picture.read_bytes()]}, "digits", timeout=_WAIT_S)}
    found |= client.predict(dict(_ROWS), "simple", timeout=_WAIT_S)
    return {name: values.tobytes() for name, values in found.items()}


def grpcurl(asked: Asked, program: Path) -> dict[str, bytes]:
    """grpcurl, which learns the messages by reflection."""
    listed = _said(program, "-plaintext", asked.grpc, "list").split()
    if _SERVICE not in listed:
        raise ValueError(f"grpcurl lists {listed}")
    message = {
        "model_name": "simple",
        "inputs": [
            {
                "name": name,
                "datatype": "INT32",
                "shape": [1, 16],
                "contents": {"int_contents": values[0].tolist()},
            }
            for name, values in _ROWS.items()
        ],
    }
    method = f"{_SERVICE}/ModelInfer"
    answer = json.loads(_said(program, "-plaintext", "-d", json.dumps(message), asked.grpc, method))
    names = [output["name"] for output in answer["outputs"]]
    contents = map(base64.b64decode, answer["rawOutputContents"])
    return dict(zip(names, contents, strict=True))


def tensorflow_serving(asked: Asked, packages: Path) -> dict[str, bytes]:
    """The messages and stubs of the package tensorflow-serving-api."""
    paths = os.pathsep.join((str(packages), os.environ.get("PYTHONPATH", "")))
    module = "benchmarks.fixtures.tensorflow_serving_client"
    words = (sys.executable, "-m", module, asked.grpc, str(asked.picture))
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": paths}
    )
    found = json.loads(done.stdout)
    if (found.pop("inputs"), found.pop("state")) != (["INPUT0", "INPUT1"], 30):
        raise ValueError("metadata or status are wrong")
    return {name: base64.b64decode(content) for name, content in found.items()}


def _said(*words: str | Path) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def _perf_analyzer(asked: Asked, program: Path) -> str:
    words = (program, "-m", "digits", "-i", "grpc", "-u", asked.grpc, "--shape", "image:96,96,3")
    levels = read_levels(_said(*words, "--concurrency-range", "1:4:1", "-p", "2000", "-s", "50"))
    return f"completes at {len(levels)} levels of concurrency"


def main() -> None:
    """Ask with every client there is; exits with 1 when an answer differs or a client fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--digits", type=Path, default=Path("ir_models/digits"), help="the digits model")
    parser.add_argument("--picture", type=Path, default=Path("docs/seven.png"))
    parser.add_argument("--grpcurl", type=Path)
    parser.add_argument("--perf-analyzer", type=Path)
    parser.add_argument("--tensorflow-serving", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    clients: dict[str, Callable[[Asked], dict[str, bytes]]] = {
        "tritonclient.grpc": triton,
        "tritonclient.grpc, gzip": triton_packed,
        "tritonclient.grpc, stream": triton_stream,
        "tritonclient.grpc.aio": triton_asyncio,
        "ovmsclient": ovms,
    }
    if given.grpcurl:
        clients["grpcurl"] = lambda asked: grpcurl(asked, given.grpcurl.resolve())
    if given.tensorflow_serving:
        clients["tensorflow-serving-api"] = lambda asked: tensorflow_serving(asked, given.tensorflow_serving)
    rows = []
    with tempfile.TemporaryDirectory(prefix="cpuserve-clients-") as folder:
        repository, port = Path(folder), free_port()
        shutil.copytree(given.digits, repository / "digits")
        write_simple_model(repository / "simple" / "1")
        with started_server("--model-repository", folder, "--grpc-port", str(port)) as local:
            http = f"127.0.0.1:{local.port}"
            asked = Asked(f"127.0.0.1:{port}", http, given.picture, over_http(http, given.picture))
            for name, ask in clients.items():
                rows.append({"client": name, **_compared(asked, ask)})
            if given.perf_analyzer:
                said = _perf_analyzer(asked, given.perf_analyzer.resolve())
                rows.append({"client": "perf_analyzer -i grpc", "equal": True, "said": said})
    table = Table("client", "as over HTTP", "said")
    for row in rows:
        table.add_row(row["client"], str(row["equal"]), row["said"])
    Console().print(table)
    if given.out:
        command = ["python", "-m", "benchmarks.grpc_clients", *sys.argv[1:]]
        write_result(given.out, command, {"clients": rows})
    sys.exit(not all(row["equal"] for row in rows))


def _compared(asked: Asked, ask: Callable[[Asked], dict[str, bytes]]) -> dict[str, Any]:
    try:
        found = ask(asked)
    except Exception as error:  # noqa: BLE001  # told in the result
        return {"equal": False, "said": f"{type(error).__name__}: {error}"[:300]}
    differs = [name for name, content in found.items() if asked.expected[name] != content]
    size = sum(map(len, found.values()))
    said = f"{len(found)} outputs of {size} bytes, {', '.join(differs) or 'all equal to the byte'}"
    return {"equal": bool(found) and not differs, "said": said}


if __name__ == "__main__":
    main()
