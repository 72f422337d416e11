"""A short run of what measures CPU time over gRPC: every way is asked, and its figures are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.running import run


def test_every_way_is_measured(tmp_path: Path) -> None:
    found = run("grpc_cpu", tmp_path / "out.json", "--seconds", "0.1", "--rounds", "1")
    tensors = ("tensor", "large tensor", "shared memory", "large shared memory")
    assert set(found["ways"]) == {
        *("HTTP, picture", "gRPC, picture", "a stub, picture", "a stub, tensor"),
        *(f"{way}, {what}" for way in ("HTTP", "gRPC") for what in tensors),
        *("inference alone, tensor", "inference alone, large tensor"),
    }
    assert all(row["cpu_us"] > 0 for row in found["ways"].values())
    assert (found["tensor_bytes"], found["large_tensor_bytes"]) == (602_112, 4_915_200)
    cpu = {way: row["cpu_us"] for way, row in found["ways"].items()}
    alone = cpu["inference alone, tensor"]
    share = (cpu["gRPC, shared memory"] - alone) / (cpu["HTTP, tensor"] - alone)
    assert found["against_http"]["gRPC, shared memory"] == pytest.approx(share, abs=1e-3)
