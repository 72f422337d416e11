"""What perf_analyzer prints becomes a result file."""

import json
from pathlib import Path

import pytest

from benchmarks.perf_analyzer import main

ROOT = Path(__file__).resolve().parent.parent.parent
SUMMARY = """Inferences/Second vs. Client Average Batch Latency
Concurrency: 1, throughput: 70.5 infer/sec, latency 14006 usec
Concurrency: 2, throughput: 143.59 infer/sec, latency 13812 usec
"""


def run(tmp_path: Path, printed: str, *more: str) -> dict[str, object]:
    (tmp_path / "printed").write_text(printed)
    words = ["-m", "m", "--shape", "x:2,2", "--printed", str(tmp_path / "printed")]
    main([*words, *more, "--out", str(tmp_path / "out.json")])
    found: dict[str, object] = json.loads((tmp_path / "out.json").read_text())
    return found


def test_levels(tmp_path: Path) -> None:
    found = run(tmp_path, SUMMARY)
    assert found["levels"] == [
        {"concurrency": 1, "infer_per_s": 70.5, "latency_ms": 14.006},
        {"concurrency": 2, "infer_per_s": 143.59, "latency_ms": 13.812},
    ]
    assert "-i http" in str(found["command"])
    assert "--concurrency-range 1:8:1" in str(found["command"])
    assert "-i grpc" in str(run(tmp_path, SUMMARY, "-i", "grpc")["command"])


@pytest.mark.parametrize("printed", ["", "Failed to obtain stable measurement within 10 windows\n" + SUMMARY])
def test_a_run_without_a_stable_end_is_no_result(tmp_path: Path, printed: str) -> None:
    with pytest.raises(ValueError, match="perf_analyzer"):
        run(tmp_path, printed)
    assert not (tmp_path / "out.json").exists()


def test_the_committed_run_went_from_1_to_8() -> None:
    found = json.loads((ROOT / "docs" / "results" / "perf-analyzer.json").read_text())
    assert [level["concurrency"] for level in found["levels"]] == list(range(1, 9))
    assert found["command"].endswith("--concurrency-range 1:8:1")
