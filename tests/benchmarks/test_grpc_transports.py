"""A short run of the comparison of gRPC's libraries, with those that are installed for certain."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.running import run


def test_a_message_of_each_size_is_measured(tmp_path: Path) -> None:
    found = run(
        "grpc_transports",
        tmp_path / "out.json",
        *("--seconds", "0.1", "--rounds", "1", "--libraries", "grpcio", "grpcio core"),
    )
    for library in ("grpcio", "grpcio core"):
        assert found["libraries"][library].keys() == {"300", "84000", "602112"}
        assert all(row["cpu_us"] > 0 for row in found["libraries"][library].values())
