"""A short run of the overload, with half of its load over gRPC."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks import overload
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
    assert min(found["cpu_ms_an_answer_at_capacity"], found["cpu_ms_an_answer_in_time"]) > 0


def test_a_capacity_of_refusals_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {"requests": 9, "seconds": 1.0, "statuses": {"OK": 1, "INVALID_ARGUMENT": 8}}
    monkeypatch.setattr(overload, "_load", lambda *_: [seen])
    monkeypatch.setattr(overload, "tree_cpu_s", lambda _pid: 0.0)
    given = argparse.Namespace(grpc_share=1.0, times=3.0)
    with pytest.raises(ValueError, match="INVALID_ARGUMENT"):
        overload._round(given, 1, (2, 3), Path("message"))
