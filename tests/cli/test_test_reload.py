"""`cpuserve test-reload` judges what its clients saw; here with few reloads, and with wrong words."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cpuserve.bench import reload
from cpuserve.bench.reload import ReloadReport
from cpuserve.cli import main

ROOT = Path(__file__).resolve().parent.parent.parent


def run(*words):
    return subprocess.run(
        [sys.executable, "-m", "cpuserve", "test-reload", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("more", [(), ("--grpc-share", "0.5")])
def test_two_reloads_lose_nothing_and_mix_nothing(monkeypatch, capsys, more):
    monkeypatch.setattr(reload, "_WARM_S", 0.2)
    monkeypatch.setattr(reload, "_STEADY_S", 0.5)
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as end:
        main(["test-reload", "digits", "docs/seven.png", "--reloads", "2", "--json", *more])
    figures = json.loads(capsys.readouterr().out)
    assert (figures["reloads"], figures["lost"], figures["strays"]) == (2, 0, 0)
    assert figures["requests"] > 0
    assert figures["passed"] == (figures["p99_ratio"] < 3)
    assert end.value.code == (0 if figures["passed"] else 1)


def test_a_report_fails_for_each_of_its_reasons():
    good = {"reloads": 1, "requests": 9, "lost": [], "strays": 0, "steady_p99_ms": 5.0, "reload_p99_ms": 14.9}
    assert ReloadReport(**good, reload_s=[1.0]).passed
    for bad in ({"lost": ["status 503"]}, {"strays": 1}, {"reload_p99_ms": 15.1}):
        assert not ReloadReport(**{**good, **bad}, reload_s=[1.0]).passed


def test_wrong_words():
    assert run("nothing", "docs/seven.png").returncode == 1
    assert run("digits", "nothing.png").returncode == 2
    assert run("digits", "docs/seven.png", "--out", "nowhere/at/all.json").returncode == 2
