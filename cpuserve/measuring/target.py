"""Finds the server at a URL: its model, its route and its process."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from cpuserve.errors import CpuserveError, UsageError
from cpuserve.measuring.load_window import Target

__all__ = ["PROTOCOLS", "ask_once", "listening_pid", "target_at"]

PROTOCOLS = ("predictions", "v2", "tensors")
_TIMEOUT_S = 60


def target_at(url: str, model: str | None, protocol: str) -> Target:
    """The server at a URL.

    Args:
        url: ``http://HOST:PORT``.
        model: its name; None if the server has one model.
        protocol: ``predictions`` posts a picture to ``/predictions/MODEL``; ``v2`` posts the same bytes as
            the Open Inference Protocol's raw binary request; ``tensors`` posts an infer request there, whose
            headers `cpuserve.measuring.tensors` makes.

    Raises:
        UsageError: no such URL, or a model that must be named.
        CpuserveError: nothing answers there.
    """
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        host = None
    if parts.scheme != "http" or not host or parts.path.rstrip("/"):
        raise UsageError(f"{url}: write it as http://HOST:PORT (TLS is not measured)")
    name = model or _only_model(host, port)
    pid, unseen = listening_pid(host, port)
    if protocol == "predictions":
        return Target(host, port, f"/predictions/{name}", pid=pid, unseen=unseen, model=name)
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": "0"}
    return Target(host, port, f"/v2/models/{name}/infer", headers, pid, unseen, name)


def ask_once(target: Target, picture: Path) -> None:
    """Post one picture, so that a wrong name or a refusal is reported before measuring starts.

    Raises:
        CpuserveError: it was not answered 200.
    """
    status, body = _request(target.host, target.port, target.path, picture.read_bytes(), target.headers)
    if status != 200:
        text = body.decode(errors="replace")[:300]
        raise CpuserveError(
            f"http://{target.host}:{target.port}{target.path} answered {picture.name} with {status}: {text}"
        )


def listening_pid(host: str, port: int) -> tuple[int | None, str]:
    """Find the process that listens at an address: the top one of those that share its socket.

    Returns:
        Its id and "", or None and why it cannot be seen.
    """
    try:
        wanted = {str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise CpuserveError(f"{host} is no host: {error}") from None
    own = {address.address for found in psutil.net_if_addrs().values() for address in found}
    if not wanted & own and not any(address.startswith("127.") for address in wanted):
        return None, f"{host} is another machine"
    listeners: set[int] = set()
    for connection in psutil.net_connections("tcp"):
        if _listens(connection, port) and connection.pid:
            listeners.add(connection.pid)
    for pid in sorted(listeners):
        with suppress(psutil.Error):
            return _eldest(psutil.Process(pid), port).pid, ""
    return None, f"no process that this user may look into listens on port {port}"


def _listens(connection: Any, port: int) -> bool:
    return bool(connection.status == psutil.CONN_LISTEN and connection.laddr.port == port)


def _eldest(process: psutil.Process, port: int) -> psutil.Process:
    """The arbiter above a worker: children inherit the socket they accept from."""
    parent = process.parent()
    while parent is not None:
        try:
            held = parent.net_connections("tcp")
        except psutil.Error:
            break
        if not any(_listens(one, port) for one in held):
            break
        process, parent = parent, parent.parent()
    return process


def _only_model(host: str, port: int) -> str:
    status, body = _request(host, port, "/v2/repository/index", b"{}", {"Content-Type": "application/json"})
    names: list[str] = []
    if status == 200:
        with suppress(ValueError, KeyError, TypeError):
            names = sorted({row["name"] for row in json.loads(body)})
    if len(names) != 1:
        there = ", ".join(names) or "it does not say which"
        raise UsageError(f"name the model with --model; the server has: {there}")
    return names[0]


def _request(host: str, port: int, path: str, body: bytes, headers: Any) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("POST", path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise CpuserveError(f"http://{host}:{port} does not answer: {error}") from None
    finally:
        connection.close()
