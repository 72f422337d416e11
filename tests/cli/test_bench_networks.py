"""`cpuserve bench networks` as the user meets it: files, words, exit codes, and Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from cpuserve.cli import main
from tests.interrupts import interruptible

SMALL = ("--networks", "squeezenet_v1.1", "--batches", "1", "--precisions", "f32", "--passes", "1")


@pytest.fixture
def run(capsys):
    def call(*words):
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in ("bench", "networks", *words)])
        captured = capsys.readouterr()
        return end.value.code, captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The directory of a finished run."""
    out = tmp_path_factory.mktemp("bench") / "out"
    with pytest.raises(SystemExit) as end:
        main(["bench", "networks", *SMALL, "--out", str(out), "--quiet"])
    assert end.value.code == 0
    return out


def test_a_run_leaves_figures_tables_and_plots(done):
    plots = {f"by_{kind}_f32_{scale}.svg" for kind in ("network", "batch") for scale in ("log", "linear")}
    tables = {"figures.jsonl", "networks.json", "table.csv", "table.md"}
    assert {file.name for file in done.iterdir()} == plots | tables
    result = json.loads((done / "networks.json").read_text())
    assert {"command", "date", "machine", "figures"} == set(result)
    assert "| 1 | " in (done / "table.md").read_text()


def test_resume_answers_at_once_and_compares(done, run, tmp_path):
    ms = json.loads((done / "networks.json").read_text())["figures"][0]["ms_per_image"]
    table = tmp_path / "nano.csv"
    table.write_text(f"network,precision,batch,ms_per_image\nsqueezenet_v1.1,f32,1,{4 * ms}\n")
    code, out, _ = run(*SMALL, "--out", done, "--resume", "--compare", table, "--json")
    figures = json.loads(out)
    assert code == 0
    assert figures["figures"][0]["ms_per_image"] == ms
    assert figures["compared_with"] == "nano"
    assert figures["compared"][0]["ratio"] == pytest.approx(4)
    code, out, _ = run(*SMALL, "--out", done, "--resume", "--compare", table)
    assert code == 0
    assert out.splitlines()[0].startswith("### f32, ms an image, mean of 1 passes")
    assert out.rstrip().endswith("| 4.00 |")
    assert (done / "compare.md").read_text() in out
    assert (done / "compare.csv").read_text().startswith("network,precision,batch,")
    for name in ("compare.md", "compare.csv"):
        (done / name).unlink()


def test_quiet_prints_nothing(done, run):
    assert run(*SMALL, "--out", done, "--resume", "--quiet") == (0, "", "")


def test_what_cannot_be_is_refused_before_anything_is_measured(done, run, tmp_path):
    table = tmp_path / "other.csv"
    table.write_text("network,precision,batch,ms_per_image\nvgg16,f32,1,100\n")
    (tmp_path / "file").write_text("")
    for words, message in (
        ((*SMALL, "--out", done), "has a run already: --resume goes on with it"),
        ((*SMALL, "--resume"), "--resume goes on with the run in --out DIR: which?"),
        ((*SMALL, "--compare", table), "none of its figures is among those asked for"),
        (("--batches", "1,two"), "--batches 1,two: numbers with commas between"),
        (("--networks", "lenet"), "--networks: 'lenet' is none of mobilenet"),
        ((*SMALL, "--out", tmp_path / "file" / "below"), "is no directory"),
        (("--passes", "0"), "--passes"),
    ):
        code, out, err = run(*words)
        assert (code, out) == (2, ""), words
        assert message in err


def test_a_run_that_is_stopped_says_how_to_go_on_and_does(tmp_path):
    out = tmp_path / "out"
    words = ["bench", "networks", "--networks", "squeezenet_v1.1", "--precisions", "f32", "--passes", "3"]
    command = [sys.executable, "-m", "cpuserve", *words, "--batches", "1,128", "--out", str(out)]
    with interruptible():
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        figures = out / "figures.jsonl"
        while process.poll() is None and not (figures.exists() and '"batch"' in figures.read_text()):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"stopped; the same command with --resume goes on from what is in {out}" in err
    first = json.loads(figures.read_text().splitlines()[1])
    done = subprocess.run(
        [*command[:-4], "--batches", "1,2", "--out", str(out), "--resume", "--json"],
        capture_output=True,
        check=True,
    )
    again = json.loads(done.stdout)["figures"]
    assert again[0] == first
    assert again[1]["batch"] == 2
    assert again[1]["ms_per_image"] > 0
