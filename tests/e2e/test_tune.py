"""`cpuserve tune` for real: killed, gone on with, and what it found applied by a server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from cpuserve.tune.trial_journal import read_trials
from tests.servers import START_TIMEOUT_S, serving

MODEL = "digits"


def words(digits: Path, folder: Path) -> list[str]:
    places = ["--model-repository", str(digits), "--tuning-dir", str(folder)]
    short = ["--level", "engine", "--max-trials", "3", "--window-seconds", "0.2"]
    return [sys.executable, "-m", "cpuserve", "tune", MODEL, *short, *places]


@contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is gone in the end."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(true, what: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not true():
        assert time.monotonic() < deadline, f"not {what}"
        time.sleep(0.05)


def test_a_killed_search_goes_on_and_a_server_applies_what_it_found(digits, tmp_path):
    folder = tmp_path / "tuning"
    command = words(digits, folder)

    def done() -> int:
        files = list(folder.glob(f"*/{MODEL}.trials.jsonl"))
        return len(read_trials(files[0]).trials) if files else 0

    log = (tmp_path / "log").open("wb")
    with log, ending(subprocess.Popen(command, stdout=log, stderr=log)) as tuner:
        wait_for(lambda: done() == 1 or tuner.poll() is not None, "one trial done")
        tree = psutil.Process(tuner.pid)
        wait_for(lambda: tree.children(recursive=True) or tuner.poll() is not None, "in the next trial")
        started = tree.children(recursive=True)
        tuner.kill()
        assert tuner.wait() == -signal.SIGKILL, (tmp_path / "log").read_text()
    _, left = psutil.wait_procs(started, timeout=30)
    assert not left, "the processes of a trial outlive the tuner"
    (first,) = read_trials(next(folder.glob(f"*/{MODEL}.trials.jsonl"))).trials

    again = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    found = json.loads(again.stdout)
    assert "going on after 1 trials" in found["notes"][0]
    recorded = read_trials(Path(found["trials_file"]))
    assert recorded.trials[0] == first
    reasons = [trial.reason for trial in recorded.trials]
    assert reasons == ["default", "hint:THROUGHPUT", "default-again"]
    assert all(trial.figures is not None and trial.figures.images_per_s > 0 for trial in recorded.trials)
    figures = first.figures
    assert figures is not None
    assert figures.facts["workers"] == len(figures.facts["placement"]["seats"])
    assert figures.facts["openmp"] == []
    assert found["space"]["dropped"]["openmp-is-there"] > 0
    assert len(found["presets"]) == 1

    arguments = ("--model-repository", str(digits), "--tuning-dir", str(folder), "--preset", "auto")
    with serving(tmp_path / "server", *arguments) as server:
        preset = server.get("/v2/placement").json()["preset"]
    assert preset["match"] == "exact"
    assert preset["models"][MODEL]["path"] == found["presets"][0]
    assert preset["models"][MODEL]["applied"] == found["best"]["settings"]
