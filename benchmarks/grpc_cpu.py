"""Measures the server's CPU time a request over gRPC beside HTTP: pictures, tensors, shared memory, a stub.

Run as ``python -m benchmarks.grpc_cpu [--picture FILE] [--out FILE]``. The models of the tensors (FP32 of 224
and 640 pixels) take little time, so their requests cost what is around a model; what inference alone takes
is measured too. A stub that only answers shows what the transport alone costs: asked as fast as it can, and
asked at the rate of the server's own answers, as threads that must be woken cost more than busy ones. With
``--triton HOST:PORT --triton-pid PID --triton-twin DIR`` a Triton that runs already answers the same picture
over gRPC; DIR is a model's directory, for cpuserve, of the network that Triton runs, so that both do the same
work (``benchmarks.fixtures.triton_network`` writes both).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.grpc_load import SERVICE
from cpuserve.grpc.messages import message_class
from cpuserve.measuring.load_window import Load, Target, measure_window, tree_cpu_s
from cpuserve.measuring.local_server import LocalServer, free_port, started_server
from cpuserve.measuring.results import write_result
from cpuserve.measuring.stable_windows import spread
from cpuserve.serving.openvino_core import openvino_core

__all__ = ["main"]

_SIDES = {"tensor": 224, "large tensor": 640}
_SHARED = {"tensor": "shared memory", "large tensor": "large shared memory"}
_REGION = f"cpubench_{os.getpid()}"  # several may run at a time
_TWIN, _BEST = "twin", 5  # what Triton answers: the best classes, not all numbers
_Request = message_class("inference.ModelInferRequest")


@dataclass(frozen=True)
class _Way:
    """A way to ask: over HTTP with a path and headers, or over gRPC; ``body`` is the file that is sent."""

    body: Path
    path: str = ""
    headers: Mapping[str, str] | None = None


def write_first_value_model(folder: Path, side: int = 224) -> None:
    """Write a model that takes little time: FP32 ``x`` [N, side, side, 3] to ``y`` [N, 1], the first value.

    Args:
        folder: is made.
        side: pixels.
    """
    import openvino as ov  # noqa: PLC0415
    from openvino import opset13 as ops  # noqa: PLC0415

    x = ops.parameter([-1, side, side, 3], np.float32, name="x")
    first = ops.slice(x, [0, 0, 0], [1, 1, 1], [1, 1, 1], [1, 2, 3])
    model = ov.Model([ops.result(ops.reshape(first, [-1, 1], special_zero=False))], [x], "first")
    model.inputs[0].set_names({"x"})
    model.outputs[0].set_names({"y"})
    folder.mkdir(parents=True)
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)


def _inference_alone(folder: Path, side: int, seconds: float) -> float:
    """CPU microseconds of one inference of such a model in this process, by one thread."""
    import openvino as ov  # noqa: PLC0415

    one_thread = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}
    request = openvino_core().compile_model(folder / "model.xml", "CPU", one_thread).create_infer_request()
    request.set_tensor("x", ov.Tensor(np.ones((1, side, side, 3), np.float32)))
    request.infer()
    count, end, cpu_s = 0, time.monotonic() + seconds, time.process_time()
    while time.monotonic() < end:
        request.infer()
        count += 1
    return 1e6 * (time.process_time() - cpu_s) / count


def _ways(folder: Path, picture: bytes) -> dict[str, _Way]:
    """Every way, its body written to a file."""
    plain = {"Content-Type": "application/octet-stream"}
    binary = "Inference-Header-Content-Length"
    requests = {
        "picture": (
            *("/v2/models/digits/infer", picture, {**plain, binary: "0"}),
            _picture_message("digits", "image", picture),
        )
    }
    for what, side in _SIDES.items():
        shape = (1, side, side, 3)
        tensor = {"name": "x", "datatype": "FP32", "shape": shape}
        values = np.random.default_rng(0).random(shape, np.float32).tobytes()
        path, size = f"/v2/models/{_model_name(side)}/infer", len(values)
        head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": size}}]}).encode()
        place = {"shared_memory_region": "r", "shared_memory_byte_size": size}
        shared = json.dumps({"inputs": [{**tensor, "parameters": place}]}).encode()
        typed = {
            "shared_memory_region": {"string_param": "r"},
            "shared_memory_byte_size": {"int64_param": size},
        }
        requests[what] = (
            *(path, head + values, {**plain, binary: str(len(head))}),
            _Request(model_name=_model_name(side), inputs=[tensor], raw_input_contents=[values]),
        )
        requests[_SHARED[what]] = (
            *(path, shared, {"Content-Type": "application/json"}),
            _Request(model_name=_model_name(side), inputs=[{**tensor, "parameters": typed}]),
        )
    found = {}
    for number, (what, (path, body, headers, message)) in enumerate(requests.items()):
        http, grpc_body = folder / f"http-{number}", folder / f"grpc-{number}"
        http.write_bytes(body)
        grpc_body.write_bytes(message.SerializeToString())
        found[f"HTTP, {what}"] = _Way(http, path, headers)
        found[f"gRPC, {what}"] = _Way(grpc_body)
    return found


def _model_name(side: int) -> str:
    return f"first_{side}"


def _tensor_bytes(side: int) -> int:
    return 4 * 3 * side * side


def _picture_message(model: str, name: str, picture: bytes) -> Any:
    prefixed = len(picture).to_bytes(4, "little") + picture
    entry = {"name": name, "datatype": "BYTES", "shape": [1]}
    return _Request(model_name=model, inputs=[entry], raw_input_contents=[prefixed])


def _twin_message(local: LocalServer, picture: bytes) -> Any:
    """The picture for Triton's network in our server; the best classes are asked for, as Triton has them."""
    _, metadata = local.get_json(f"/v2/models/{_TWIN}")
    message = _picture_message(_TWIN, metadata["inputs"][0]["name"], picture)
    wanted = {"classification": {"int64_param": _BEST}}
    message.outputs.add(**{"name": metadata["outputs"][0]["name"], "parameters": wanted})
    return message


def _over_grpc(
    address: str, pid: int, body: Path, given: argparse.Namespace, rate: float = 0.0
) -> tuple[float, float]:
    """CPU microseconds a request of a server, and its requests a second; raises when one is not answered.

    Args:
        address: of the server.
        pid: of the server.
        body: the message.
        given: the command line.
        rate: arrivals a second; 0 for as many as are answered.
    """
    before = tree_cpu_s(pid)
    words = ["--channels", str(given.connections), "--seconds", str(given.seconds)]
    words += ["--rate", str(rate)] if rate else []
    command = (sys.executable, "-m", "benchmarks.grpc_load", address, str(body), *words)
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    if found["statuses"].keys() != {"OK"}:
        raise ValueError(f"{body.name} at {address}: {found['statuses']}")
    return 1e6 * (tree_cpu_s(pid) - before) / found["requests"], found["requests"] / found["took_s"]


def _over_http(local: LocalServer, way: _Way, given: argparse.Namespace) -> float:
    target = Target("127.0.0.1", local.port, way.path, way.headers or {}, pid=local.pid)
    load = Load(connections=given.connections)
    window = measure_window(target, [way.body], load, seconds=given.seconds)
    if window.errors or window.cpu_ms is None:
        raise ValueError(f"{way.path}: {window.statuses}")
    return 1000 * window.cpu_ms


@contextmanager
def _stub(answer: Path) -> Iterator[tuple[str, int]]:
    command = (sys.executable, "-m", "benchmarks.fixtures.core_grpc_stub", str(answer))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None:
            raise ValueError("the stub has no output")
        try:
            yield f"127.0.0.1:{int(process.stdout.readline())}", process.pid
        finally:
            process.communicate("")


@contextmanager
def _region(address: str) -> Iterator[None]:
    """A tensor in shared memory, registered as ``r``."""
    size = max(map(_tensor_bytes, _SIDES.values()))
    memory = SharedMemory(_REGION, create=True, size=size)
    try:
        region = message_class("inference.SystemSharedMemoryRegisterRequest")
        with grpc.insecure_channel(address) as channel:
            register = channel.unary_unary(f"/{SERVICE}/SystemSharedMemoryRegister")
            register(region(name="r", key=_REGION, byte_size=size).SerializeToString(), timeout=30)
        yield
    finally:
        memory.close()
        memory.unlink()


def main() -> None:
    """Measure every way in turn, several rounds over, and print or write the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--digits", type=Path, default=Path("ir_models/digits"), help="the digits model")
    parser.add_argument("--picture", type=Path, default=Path("docs/seven.png"))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--triton", metavar="HOST:PORT")
    parser.add_argument("--triton-pid", type=int)
    parser.add_argument("--triton-model", default="classify")
    parser.add_argument("--triton-input", default="image")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--triton-twin", type=Path, metavar="DIR", help="Triton's network as a model here")
    given = parser.parse_args()
    if given.triton and not (given.triton_pid and given.triton_twin):
        parser.error("--triton needs --triton-pid, and --triton-twin with the network that Triton runs")
    rounds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="cpuserve-bench-") as place:
        folder = Path(place)
        picture = given.picture.read_bytes()
        repository, port = folder / "models", free_port()
        shutil.copytree(given.digits, repository / "digits")
        for side in _SIDES.values():
            write_first_value_model(repository / _model_name(side) / "1", side)
        if given.triton:
            shutil.copytree(given.triton_twin, repository / _TWIN)
        ways = _ways(folder, picture)
        answer = folder / "answer"
        answer.write_bytes(bytes(100))
        words = ["--model-repository", str(repository), "--workers", str(given.workers)]
        words += ["--grpc-port", str(port), "--shared-memory-prefix", "cpubench_"]
        with started_server(*words) as local, _stub(answer) as stub, _region(f"127.0.0.1:{port}"):
            measures: dict[str, Callable[[], float]] = {}
            for what, side in _SIDES.items():
                alone = partial(_inference_alone, repository / _model_name(side) / "1", side, given.seconds)
                measures[f"inference alone, {what}"] = alone
            for name, way in ways.items():
                measures[name] = _measure(local, port, way, given)
                if name in ("gRPC, picture", "gRPC, tensor"):
                    measures |= _beside_stub(name, stub, (f"127.0.0.1:{port}", local.pid), way.body, given)
            if given.triton:
                measures |= _beside_triton(local, port, picture, folder, given)
            for _ in range(given.rounds):
                for name, measure in measures.items():
                    rounds.setdefault(name, []).append(measure())
    figures = {
        name: {"cpu_us": statistics.median(found), "noise": spread(found), "rounds_cpu_us": found}
        for name, found in rounds.items()
    }
    _show(figures)
    if given.out:
        sizes = {"picture_bytes": len(picture)}
        sizes |= {f"{what} bytes".replace(" ", "_"): _tensor_bytes(side) for what, side in _SIDES.items()}
        facts = {**sizes, "workers": given.workers, "connections": given.connections}
        command = ["python", "-m", "benchmarks.grpc_cpu", *sys.argv[1:]]
        write_result(given.out, command, {**facts, "ways": figures, "against_http": _against_http(figures)})


def _show(figures: Mapping[str, Mapping[str, Any]]) -> None:
    table = Table("way", "CPU us a request", "noise")
    for name, row in figures.items():
        table.add_row(name, f"{row['cpu_us']:.0f}", f"{row['noise']:.2f}")
    Console().print(table)


def _beside_triton(
    local: LocalServer, port: int, picture: bytes, folder: Path, given: argparse.Namespace
) -> dict[str, Callable[[], float]]:
    """The picture asked of Triton, and of its network in our server."""
    asked, twin = folder / "triton", folder / _TWIN
    message = _picture_message(given.triton_model, given.triton_input, picture)
    message.inputs[0].shape[:] = [1, 1]  # its model has the batch and one text a row
    asked.write_bytes(message.SerializeToString())
    twin.write_bytes(_twin_message(local, picture).SerializeToString())
    return {
        "Triton, picture": _measure_grpc(given.triton, given.triton_pid, asked, given),
        f"gRPC, {_TWIN}": _measure_grpc(f"127.0.0.1:{port}", local.pid, twin, given),
    }


def _measure(local: LocalServer, port: int, way: _Way, given: argparse.Namespace) -> Callable[[], float]:
    if way.path:
        return lambda: _over_http(local, way, given)
    return _measure_grpc(f"127.0.0.1:{port}", local.pid, way.body, given)


def _measure_grpc(address: str, pid: int, body: Path, given: argparse.Namespace) -> Callable[[], float]:
    return lambda: _over_grpc(address, pid, body, given)[0]


def _beside_stub(
    name: str, stub: tuple[str, int], server: tuple[str, int], body: Path, given: argparse.Namespace
) -> dict[str, Callable[[], float]]:
    """A message asked of the server, and of the stub as fast as it can and at the rate of the server."""
    rate = 0.0

    def ours() -> float:
        nonlocal rate
        cpu_us, rate = _over_grpc(*server, body, given)
        return cpu_us

    what = name.partition(", ")[2]
    return {
        name: ours,
        f"a stub, {what}": _measure_grpc(*stub, body, given),
        f"a stub at the same rate, {what}": lambda: _over_grpc(*stub, body, given, rate)[0],
    }


def _against_http(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Shares of HTTP's cost: of a picture beyond the transport of the stub, of tensors beyond inference."""
    cpu = {name: row["cpu_us"] for name, row in figures.items()}
    found = {
        name: (cpu["gRPC, picture"] - cpu[f"{stub}, picture"]) / cpu["HTTP, picture"]
        for name, stub in (("picture", "a stub"), ("picture at one rate", "a stub at the same rate"))
    }
    for what, shared in _SHARED.items():
        alone = cpu[f"inference alone, {what}"]
        http = cpu[f"HTTP, {what}"] - alone
        for way in (f"gRPC, {what}", f"gRPC, {shared}", f"HTTP, {shared}"):
            found[way] = (cpu[way] - alone) / http
    if "Triton, picture" in cpu:
        found["Triton over ours"] = cpu["Triton, picture"] / cpu[f"gRPC, {_TWIN}"]
    return {name: round(value, 3) for name, value in found.items()}


if __name__ == "__main__":
    main()
