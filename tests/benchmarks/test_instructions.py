"""The gate: a request through the server may not cost more calls or instructions than it did.

After a change that is worth its cost: ``python -m benchmarks.instructions --processes 3 --out
docs/results/instructions.json``.
"""

from __future__ import annotations

import json
import shutil
import statistics

import pytest

from benchmarks import instructions
from benchmarks.fixtures.hot_path import hot_path
from benchmarks.instructions import count_calls, count_instructions, surroundings
from cpuserve.errors import CpuserveError
from tests.conftest import ROOT

WITHIN = 1.03  # of instructions: 30 times the most that processes may spread
CALLS_WITHIN = 1.05  # other Pythons inline other calls


@pytest.fixture(scope="module")
def baseline():
    return json.loads((ROOT / "docs" / "results" / "instructions.json").read_text())


def test_the_way_that_is_counted_answers_as_the_server_does():
    with hot_path() as serve:
        for _ in range(3):
            head, _, body = serve().partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            best = {"class_id": 9, "label": "class 9", "probability": 1.0}
            assert json.loads(body)["predictions"][0] == best


def test_a_request_makes_no_more_calls_than_it_did(baseline):
    calls = count_calls()
    assert calls == pytest.approx(count_calls(), abs=0.5)  # it is no matter of chance
    assert 0.5 < calls / baseline["calls_per_request"] <= CALLS_WITHIN


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind; calls are counted all the same")
def test_a_request_takes_no_more_instructions_than_it_did(baseline):
    if surroundings() != baseline["surroundings"]:
        pytest.skip(f"the baseline was counted with {baseline['surroundings']}")
    counted = statistics.median(count_instructions(rounds=3))
    assert 0.5 < counted / baseline["instructions_per_request"] <= WITHIN


def test_the_baseline_was_steady(baseline):
    assert len(baseline["rounds"]) >= 3
    assert baseline["spread"] < 0.001


def test_without_valgrind_it_says_so(monkeypatch):
    monkeypatch.setattr(instructions.shutil, "which", lambda _name: None)
    with pytest.raises(CpuserveError, match="apt install valgrind"):
        count_instructions(rounds=1)
