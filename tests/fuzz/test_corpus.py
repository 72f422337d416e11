"""What fuzzing has tried stays refused or understood: the corpus and its seeds, without a fuzzer."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TARGETS = sorted(file.stem.removeprefix("fuzz_") for file in HERE.glob("fuzz_*.py"))


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_is_handled(name):
    target = importlib.import_module(f"tests.fuzz.fuzz_{name}")
    inputs = [*target.seeds(), *(file.read_bytes() for file in sorted((HERE / "corpus" / name).iterdir()))]
    assert len(inputs) >= 20
    for data in inputs:
        target.one(data)


def test_the_corpus_is_small():
    assert sum(file.stat().st_size for file in HERE.rglob("corpus/*/*")) < 200_000


def test_every_target_had_its_ten_minutes_after_the_last_finding():
    written = json.loads((HERE.parent.parent / "docs" / "results" / "fuzz.json").read_text())["targets"]
    assert {row["target"] for row in written} == set(TARGETS)
    for row in written:
        assert row["runs"][-1]["ended"] == "time was up", row["target"]
        assert row["runs"][-1]["seconds"] >= 600, row["target"]
