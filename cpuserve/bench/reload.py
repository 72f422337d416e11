"""Replaces a model again and again under load and counts what clients notice."""

from __future__ import annotations

import http.client
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpuserve.errors import CpuserveError
from cpuserve.measuring.local_server import LocalServer, free_port, started_server
from cpuserve.models.repository import ModelFile

__all__ = ["ReloadReport", "as_json", "measure_reloads"]

_TAKES_OVER_S = 120.0
_WARM_S = 2.0
_STEADY_S = 5.0
_OK = 200
_SERVICE = "inference.GRPCInferenceService"


@dataclass
class _Seen:
    """The answers that clients got: when, how long they took, status and version."""

    answers: list[tuple[float, float, int, int]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    latest: dict[int, int] = field(default_factory=dict)  # version by client


@dataclass(frozen=True)
class ReloadReport:
    """What clients noticed of the reloads.

    Attributes:
        reloads: how many there were.
        requests: requests answered meanwhile.
        lost: requests that were not answered 200, one line each.
        strays: answers from a version that was neither the old nor the new one.
        steady_p99_ms: without reloads.
        reload_p99_ms: from the first reload to the last.
        reload_s: seconds from publishing a version until only it answers, by reload.
    """

    reloads: int
    requests: int
    lost: list[str]
    strays: int
    steady_p99_ms: float
    reload_p99_ms: float
    reload_s: list[float]

    @property
    def ratio(self) -> float:
        """Tail latency during the reloads over the steady one."""
        return self.reload_p99_ms / self.steady_p99_ms

    @property
    def passed(self) -> bool:
        """No request lost, no stray answer, tail under three times the steady one."""
        return not self.lost and not self.strays and self.ratio < 3


def measure_reloads(
    model: ModelFile,
    picture: Path,
    *,
    reloads: int,
    connections: int,
    over_grpc: int = 0,
    progress: Callable[[int], None] = lambda _done: None,
) -> ReloadReport:
    """Serve copies of a model from a directory of its own and replace it under load.

    Args:
        model: the version to copy and serve.
        picture: the picture that clients post.
        reloads: how often the version is replaced.
        connections: clients, each with one request under way.
        over_grpc: how many of them ask over gRPC.
        progress: is called after each reload with the number of reloads.

    Raises:
        CpuserveError: the server does not start, or a new version does not arrive.
    """
    with tempfile.TemporaryDirectory(prefix="cpuserve-reload-") as folder:
        root = Path(folder) / "models"
        _put(model, root, 1)
        words = ["--model-repository", str(root), "--file-system-poll-wait-seconds", "0.2"]
        grpc_port = free_port() if over_grpc else 0
        words += ["--grpc-port", str(grpc_port)] if over_grpc else []
        with started_server(*words) as local:
            content, seen, stop = picture.read_bytes(), _Seen(), threading.Event()
            over_http = (local.port, model.name, content, seen, stop)
            clients = [
                threading.Thread(target=_client, args=over_http) for _ in range(connections - over_grpc)
            ]
            if over_grpc:
                message = _message(local, model.name, content)
                clients += [
                    threading.Thread(target=_grpc_client, args=(grpc_port, message, seen, stop))
                    for _ in range(over_grpc)
                ]
            return _under_load(model, root, clients, seen, stop, reloads, progress)


def _under_load(
    model: ModelFile,
    root: Path,
    clients: Sequence[threading.Thread],
    seen: _Seen,
    stop: threading.Event,
    reloads: int,
    progress: Callable[[int], None],
) -> ReloadReport:
    for client in clients:
        client.start()
    try:
        time.sleep(_WARM_S)  # the first answers also warm the clients
        steady_from = time.monotonic()
        time.sleep(_STEADY_S)
        began = time.monotonic()
        windows, took = [], []
        for done in range(1, reloads + 1):
            published = time.monotonic()
            _put(model, root, done + 1)
            _wait_version(seen, done + 1)
            shutil.rmtree(root / model.name / str(done))
            windows.append((published, {done, done + 1}))
            took.append(time.monotonic() - published)
            progress(done)
    finally:
        stop.set()
        for client in clients:
            client.join()
    ended = windows[-1][0] + took[-1]
    during = [answer for answer in seen.answers if began <= answer[0] <= ended]
    strays = 0
    for at, _, status, version in during:
        allowed = next(pair for since, pair in reversed(windows) if since <= at or since == windows[0][0])
        strays += status == 200 and version not in allowed
    steady = [answer for answer in seen.answers if steady_from <= answer[0] < began]
    bad = [f"status {status}" for _, _, status, _ in seen.answers if status != 200]
    return ReloadReport(
        reloads=reloads,
        requests=len(during),
        lost=[*seen.lost, *bad],
        strays=strays,
        steady_p99_ms=_p99(steady),
        reload_p99_ms=_p99(during),
        reload_s=took,
    )


def _client(port: int, model: str, picture: bytes, seen: _Seen, stop: threading.Event) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while not stop.is_set():
        began = time.monotonic()
        try:
            connection.request("POST", f"/predictions/{model}", picture)
            answer = connection.getresponse()
            document = json.loads(answer.read())
        except (OSError, http.client.HTTPException) as error:
            seen.lost.append(repr(error))
            connection.close()
            continue
        version = int(document.get("version", 0))
        seen.answers.append((began, 1000 * (time.monotonic() - began), answer.status, version))
        seen.latest[threading.get_ident()] = version
    connection.close()


def _message(local: LocalServer, model: str, picture: bytes) -> bytes:
    from cpuserve.grpc.messages import message_class  # noqa: PLC0415  # needs an extra

    _, metadata = local.get_json(f"/v2/models/{model}")
    entry = {"name": metadata["inputs"][0]["name"], "datatype": "BYTES", "shape": [1]}
    request = message_class("inference.ModelInferRequest")
    content: bytes = request(
        model_name=model, inputs=[{**entry, "contents": {"bytes_contents": [picture]}}]
    ).SerializeToString()
    return content


def _grpc_client(port: int, message: bytes, seen: _Seen, stop: threading.Event) -> None:
    import grpc  # noqa: PLC0415  # needs an extra

    from cpuserve.grpc.messages import message_class  # noqa: PLC0415

    response = message_class("inference.ModelInferResponse")
    own = [("grpc.use_local_subchannel_pool", 1)]  # a connection for each client
    with grpc.insecure_channel(f"127.0.0.1:{port}", own) as channel:
        call = channel.unary_unary(f"/{_SERVICE}/ModelInfer")
        while not stop.is_set():
            began = time.monotonic()
            try:
                version = int(response.FromString(call(message, timeout=60)).model_version)
            except grpc.RpcError as error:
                seen.lost.append(f"{error.code().name}: {error.details()}")
                continue
            seen.answers.append((began, 1000 * (time.monotonic() - began), _OK, version))
            seen.latest[threading.get_ident()] = version


def _wait_version(seen: _Seen, version: int) -> None:
    """Wait until the latest answer of every client comes from ``version``."""
    deadline = time.monotonic() + _TAKES_OVER_S
    while set(seen.latest.values()) != {version}:
        if time.monotonic() > deadline:
            raise CpuserveError(f"version {version} did not take over within {_TAKES_OVER_S:g} s")
        time.sleep(0.02)


def _put(model: ModelFile, root: Path, version: int) -> None:
    """Copy the model beside, then rename it into place: readers see all of it or nothing."""
    beside = root / f".{version}"
    beside.mkdir(parents=True)
    for file in (model.xml, model.xml.with_suffix(".bin")):
        shutil.copy(file, beside / file.name)
    (root / model.name).mkdir(exist_ok=True)
    beside.rename(root / model.name / str(version))


def _p99(answers: list[tuple[float, float, int, int]]) -> float:
    latencies = sorted(answer[1] for answer in answers)
    return latencies[min(len(latencies) - 1, len(latencies) * 99 // 100)]


def as_json(report: ReloadReport) -> dict[str, Any]:
    """The report for machines."""
    return {
        "reloads": report.reloads,
        "requests": report.requests,
        "lost": len(report.lost),
        "lost_first": report.lost[:5],
        "strays": report.strays,
        "steady_p99_ms": round(report.steady_p99_ms, 3),
        "reload_p99_ms": round(report.reload_p99_ms, 3),
        "p99_ratio": round(report.ratio, 3),
        "reload_s": [round(seconds, 3) for seconds in report.reload_s],
        "passed": report.passed,
    }
