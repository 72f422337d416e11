"""What is told of a sample script: whether it ended well and printed what HTTP answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.fixtures.sample_models import write_sample_models
from benchmarks.fixtures.sample_scripts import SCRIPTS, Sample, Served
from benchmarks.grpc_samples import compared
from cpuserve.models.repository import Repository
from tests.conftest import ROOT

PRINTS = "import sys\nprint('\\n'.join(sys.argv[1:]))\nsys.exit('bad' in sys.argv)\n"


@pytest.fixture
def told(tmp_path: Path):
    (tmp_path / "script.py").write_text(PRINTS)
    file = tmp_path / "none"
    served = Served("h:1", "h:2", file, tmp_path / "pictures", file, file, file, str)

    def ask(words, **more):
        return compared(Sample("script.py", words, **more), served, tmp_path, None)

    return ask


def test_texts_are_looked_for_in_their_order(told):
    words = "--url {http} --port {port} end"
    row = told(words, pieces=lambda served: (f"--url\n{served.http}", "2\nend"), ends="end")
    assert (row["exit"], row["equal"], row["said"]) == (0, True, "2 texts made of HTTP's answers; end")
    row = told(words, pieces=lambda _served: ("end", "--url"))
    assert (row["equal"], row["said"]) == (False, "it does not print '--url'")


def test_a_script_that_fails_or_prints_something_else_is_not_equal(told):
    assert told("a", ends="b")["said"] == "its last line is not 'b'"
    assert told("{grpc}", twin="{http}")["said"] == "over HTTP it prints 'h:1\\n'"
    assert told("same", twin="same")["equal"]
    row = told("bad", lacks="a word")
    assert (row["exit"], row["equal"], row["lacks"]) == (1, False, "a word")


def test_a_script_that_does_not_end_is_said(told, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.grpc_samples._WAIT_S", 0.5)
    (tmp_path / "script.py").write_text("import time\ntime.sleep(60)\n")
    row = told("")
    assert (row["exit"], row["equal"], row["said"]) == (None, False, "it did not end in time")


def test_the_models_are_there(tmp_path):
    write_sample_models(tmp_path)
    assert Repository(tmp_path).names() == [
        *("densenet_onnx", "inception_graphdef", "resnet", "simple", "simple_int8"),
    ]


def test_the_result_holds_every_script():
    rows = json.loads((ROOT / "docs" / "results" / "grpc-samples.json").read_text())
    assert rows["missing"] == []
    assert [(row["script"], row["arguments"]) for row in rows["scripts"]] == [
        (one.path, one.words) for one in SCRIPTS
    ]
    for row in rows["scripts"]:
        assert row["equal"] is not bool(row["lacks"]), row["script"]
