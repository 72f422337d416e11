"""A short run of what measures CPU time over gRPC: every way is asked, and its figures are there."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.running import run


def test_every_way_is_measured(tmp_path: Path) -> None:
    found = run("grpc_cpu", tmp_path / "out.json", "--seconds", "0.3", "--rounds", "1")
    assert set(found["ways"]) == {
        *("HTTP, picture", "gRPC, picture", "a stub, picture"),
        *("HTTP, tensor", "gRPC, tensor", "a stub, tensor"),
        *("HTTP, shared memory", "gRPC, shared memory"),
    }
    assert all(row["cpu_us"] > 0 for row in found["ways"].values())
    assert set(found["against_http"]) == {
        *("picture_without_transport", "tensor", "shared_memory_grpc", "shared_memory_http"),
    }
