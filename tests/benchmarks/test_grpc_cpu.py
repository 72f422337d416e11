"""A short run of what measures CPU time over gRPC: every way is asked, and its figures are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.running import run


def test_every_way_is_measured(tmp_path: Path) -> None:
    found = run("grpc_cpu", tmp_path / "out.json", "--seconds", "0.3", "--rounds", "1")
    tensors = ("tensor", "large tensor", "shared memory", "large shared memory")
    assert set(found["ways"]) == {
        *("HTTP, picture", "gRPC, picture", "a stub, picture", "a stub, tensor"),
        *("a stub at the same rate, picture", "a stub at the same rate, tensor"),
        *(f"{way}, {what}" for way in ("HTTP", "gRPC") for what in tensors),
        *("inference alone, tensor", "inference alone, large tensor"),
    }
    # the clock of CPU time may not have moved in the few requests of a stub that is not asked for more
    assert all(row["cpu_us"] > 0 for way, row in found["ways"].items() if "same rate" not in way)
    assert (found["tensor_bytes"], found["large_tensor_bytes"]) == (602_112, 4_915_200)
    cpu = {way: row["cpu_us"] for way, row in found["ways"].items()}
    alone = cpu["inference alone, tensor"]
    share = (cpu["gRPC, shared memory"] - alone) / (cpu["HTTP, tensor"] - alone)
    assert found["against_http"]["gRPC, shared memory"] == pytest.approx(share, abs=1e-3)
