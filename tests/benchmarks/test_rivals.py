"""Medians over rounds of a harness's rows, and the comparison with our own."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.rivals import markdown, summary

OTHERS = ("p50", "p99", "client", "foreign", "broken")
HARNESS = """
import argparse, json
parser = argparse.ArgumentParser()
for name in ("peers", "out", "model", "conc"):
    parser.add_argument("--" + name)
given = parser.parse_args()
with open(given.out, "a") as file:
    for place, peer in enumerate(given.peers.split(",")):
        load = dict.fromkeys(("p50", "p99", "client", "foreign", "bad", "broken"), 0)
        load |= {"rps": 100 + place, "cpu_ms": 2.0}
        ceiling = {"rps": 1, "cpu_ms": 1}
        row = {"peer": peer, "version": "1", "note": "", "model": given.model, "image": "", "work": "jpeg",
               "agrees": True, "closed": {given.conc: load}, "open": {}, "ceiling_before": ceiling,
               "ceiling_after": ceiling, "pss": 1}
        file.write(json.dumps(row if peer != "broken" else {"peer": peer, "error": "no port"}) + "\\n")
"""


def row(peer: str, rps: float, cpu: float, ceilings: tuple[float, float] = (300, 310)) -> dict[str, Any]:
    load = {
        "rps": rps,
        "cpu_ms": cpu,
        "p50": 1.0,
        "p99": 9.0,
        "client": 0.2,
        "foreign": 0.01,
        "bad": 1,
        "broken": 0,
    }
    before, after = ({"rps": value, "cpu_ms": 600 / value} for value in ceilings)
    about = dict.fromkeys(("version", "note", "model", "image", "work", "agrees"), "")
    loads = {"closed": {"16": load}, "open": {}}
    return {**about, **loads, "peer": peer, "ceiling_before": before, "ceiling_after": after, "pss": 100.0}


def test_medians_noise_and_ratios():
    rounds = [
        [row("own", 200, 2.0), row("other", 100, 4.0)],
        [row("other", 120, 5.0), row("own", 220, 2.2)],
        [row("own", 210, 2.1), row("other", 110, 4.2)],
    ]
    peers = summary(rounds, "own")["peers"]
    load = peers["other"]["loads"]["c16"]
    assert load["cpu_ms"] == {"median": 4.2, "noise": pytest.approx(1 / 4.2)}
    assert load["cpu_times"] == pytest.approx(2)
    assert load["rps_times"] == pytest.approx(110 / 210)
    assert load["bad"] == 3
    assert peers["own"]["ceiling_rps"]["median"] == 310


def test_who_failed_is_named_and_the_order_changes(tmp_path):
    (tmp_path / "bench.py").write_text(HARNESS)
    out = tmp_path / "found.json"
    words = ["--harness", str(tmp_path), "--peers", "own,other,broken", "--own", "own", "--rounds", "2"]
    words += ["--model", "m", "--conc", "4", "--out", str(out)]
    subprocess.run([sys.executable, "-m", "benchmarks.rivals", *words], check=True)
    found = json.loads(out.read_text())
    assert found["failed"] == {"broken": "no port"}
    rates = {name: peer["loads"]["c4"]["rps"] for name, peer in found["peers"].items()}
    assert rates["other"]["noise"] > 0  # second place in the first round, first in the second
    assert found["rounds"] == 2


DOCS = Path(__file__).resolve().parents[2] / "docs"


FILES = sorted(file for kind in ("rivals", "paired") for file in (DOCS / "results").glob(f"{kind}*.json"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_page_shows_the_result_files(file):
    found, page = json.loads(file.read_text()), (DOCS / "rivals.md").read_text()
    assert markdown(found) in page, f"--show {file.name}"
    assert re.search(rf"`{re.escape(found['machine'])}`, {found['date']}, .*\(results/{file.name}\)", page)


@pytest.mark.parametrize(
    "file", [file for file in FILES if "paired" in file.stem], ids=lambda file: file.stem
)
def test_the_ratios_by_turns_are_those_of_their_windows(file):
    found = json.loads(file.read_text())
    own = found["rows"]["cpuserve"]
    for name, windows in found["rows"].items():
        ratios = [one["cpu_ms"] / ours["cpu_ms"] for one, ours in zip(windows, own, strict=True)]
        assert found["summary"][name]["cpu_ratio"] == pytest.approx(statistics.median(ratios)), name


def test_several_files_are_shown_one_after_the_other():
    shown = subprocess.run(
        [sys.executable, "-m", "benchmarks.rivals", "--show", *map(str, FILES[:2])],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    first, second = (markdown(json.loads(file.read_text())) for file in FILES[:2])
    assert shown.strip() == f"{first}\n\n{second}"
