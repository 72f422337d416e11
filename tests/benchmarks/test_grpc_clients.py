"""Clients that others wrote get over gRPC what they get over HTTP, to the byte."""

from __future__ import annotations

import json
from pathlib import Path

from tests.benchmarks.running import run
from tests.conftest import ROOT


def test_every_client_that_is_here(tmp_path: Path) -> None:
    found = run("grpc_clients", tmp_path / "out.json")
    assert {row["client"] for row in found["clients"]} == {
        *("tritonclient.grpc", "tritonclient.grpc, gzip", "tritonclient.grpc, stream"),
        *("tritonclient.grpc.aio", "ovmsclient"),
    }
    assert all(row["equal"] for row in found["clients"])


def test_the_result_has_those_that_are_not_here_too() -> None:
    rows = json.loads((ROOT / "docs" / "results" / "grpc-clients.json").read_text())["clients"]
    assert {"grpcurl", "tensorflow-serving-api", "perf_analyzer -i grpc"} <= {row["client"] for row in rows}
    assert all(row["equal"] for row in rows)
