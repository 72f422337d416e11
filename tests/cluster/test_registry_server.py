"""The registry of a cluster is one that clients read."""

from __future__ import annotations

import pytest

from cpuserve.cluster.registry_server import RegistryServer
from cpuserve.endpoints.registry import read_registry
from cpuserve.errors import CpuserveError


def test_clients_read_it():
    rows = [{"url": "http://10.0.0.1:8000", "ready": True}, {"url": "http://10.0.0.2:8000", "ready": False}]
    registry = RegistryServer("127.0.0.1", 0, lambda: {"endpoints": rows})
    try:
        assert read_registry(f"@{registry.url}") == ["http://10.0.0.1:8000"]
        rows[1]["ready"] = True
        assert read_registry(f"@{registry.url}") == ["http://10.0.0.1:8000", "http://10.0.0.2:8000"]
        port = int(registry.url.split(":")[2].split("/")[0])
        with pytest.raises(CpuserveError, match="--registry-port"):
            RegistryServer("127.0.0.1", port, dict)
    finally:
        registry.close()
