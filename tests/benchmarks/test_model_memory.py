"""Memory and start of the ways to load a model: a small run, and the told figures are those of the file."""

import json

from tests.benchmarks.running import run
from tests.conftest import ROOT

DOCS = ROOT / "docs"


def test_a_small_run(tmp_path):
    words = ("--networks", "squeezenet_v1.1", "--workers", "1", "--rounds", "1")
    rows = run("model_memory", tmp_path / "model-memory.json", *words)["rows"]
    assert [row["variant"] for row in rows] == ["copied, tried in a child", "copied", "mapped"]
    assert all(row["peak_mib"] >= row["rss_mib"] >= row["pss_mib"] > 0 for row in rows)
    assert all(row["start_s"] > 0 for row in rows)


def test_the_docs_tell_what_the_file_says():
    rows = json.loads((DOCS / "results" / "model-memory.json").read_text())["rows"]
    found = {(row["network"], row["workers"], row["variant"]): row for row in rows}
    text = " ".join((DOCS / "serving.md").read_text().split())
    for network in ("mobilenet", "resnet50"):
        tried, copied, mapped = (
            found[network, 2, variant] for variant in ("copied, tried in a child", "copied", "mapped")
        )
        line = (
            f"| {network} | {mapped['rss_mib']:.0f} | {copied['rss_mib']:.0f} | {mapped['start_s']:.1f} "
            f"| {copied['start_s']:.1f} | {tried['start_s']:.1f} |"
        )
        assert line in text
