"""A short run of the overload, with half of its load over gRPC."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.running import run


def test_half_of_the_load_over_grpc(tmp_path: Path) -> None:
    words = (
        "--grpc-share",
        "0.5",
        "--seconds",
        "0.5",
        "--rounds",
        "1",
        "--timeout-ms",
        "5000",
        "--times",
        "0.5",
    )
    (found,) = run("overload", tmp_path / "out.json", *words)["rounds"]
    assert found["statuses"]["200"] > 0  # over HTTP
    assert found["statuses"]["OK"] > 0  # over gRPC
    assert found["capacity_per_s"] > 0
