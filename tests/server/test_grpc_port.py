"""The gRPC port is kept for one server, before its workers are forked."""

from __future__ import annotations

import importlib.util
import socket

import pytest

from cpuserve.errors import MissingExtra, UsageError
from cpuserve.server.grpc_port import GrpcPort
from cpuserve.settings import Settings
from tests.servers import free_port


def keep(port, host="127.0.0.1"):
    return GrpcPort(Settings(host=host, grpc_port=port))


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_that_another_process_has_is_refused_even_if_it_would_share(shared):
    with socket.socket() as other:
        if shared:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(UsageError, match="cannot be used: Address already in use"):
            keep(other.getsockname()[1])


def test_two_servers_cannot_keep_one_port():
    port = free_port()
    first = keep(port)
    with pytest.raises(UsageError, match=f"grpc_port {port} of 127.0.0.1 cannot be used"):
        keep(port)
    first.close()
    keep(port).close()


def test_workers_share_the_port_that_is_kept():
    port = free_port()
    kept = keep(port)
    for _ in range(2):
        with socket.socket() as worker:
            worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            worker.bind(("127.0.0.1", port))
            worker.listen()
            socket.create_connection(("127.0.0.1", port)).close()  # the kept one takes no connection
    kept.close()


def test_the_port_of_http_is_refused():
    with pytest.raises(UsageError, match="port and grpc_port are both 8000"):
        GrpcPort(Settings(port=8000, grpc_port=8000))


@pytest.mark.parametrize("missing", ["grpc", "google", "google.protobuf"])
def test_without_its_packages_the_extra_is_named(monkeypatch, missing):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else found(name))
    with pytest.raises(MissingExtra, match=r"pip install 'cpuserve\[grpc\]'"):
        keep(free_port())
