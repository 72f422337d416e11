"""The Grafana dashboard asks for metrics and labels that a real server has, and for the main ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.servers import serving

BOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text())
METRIC = re.compile(r"\b(?:cpuserve|ovms|process)_[a-z0-9_]+")
OF_PROMETHEUS = {"job", "instance", "le"}
NOT_SHOWN = {  # by themselves they say little
    "ovms_streams",
    "cpuserve_executions_total",
}


def expressions() -> list[str]:
    return [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]


@pytest.fixture(scope="module")
def labels_by_metric(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, set[str]]]:
    """The labels of each sample of a server that has answered a request."""
    log = tmp_path_factory.mktemp("dashboard") / "log"
    with serving(log, "--model-repository", str(digits), "--workers", "1") as server:
        seven = (ROOT / "docs" / "seven.png").read_bytes()
        assert server.post("/predictions/digits", seven, **{"Content-Type": "image/png"}).status == 200
        found: dict[str, set[str]] = {}
        # as Prometheus keeps them; the parser of its Python client renames counters
        for name, labels in re.findall(r"^(\w+)\{(.*)\} ", server.get("/metrics").body.decode(), re.M):
            found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
        yield found


def test_every_metric_and_label_is_one_that_the_server_has(labels_by_metric: dict[str, set[str]]) -> None:
    variables = [
        variable["definition"] for variable in BOARD["templating"]["list"] if "definition" in variable
    ]
    for expression in (*expressions(), *variables):
        names = METRIC.findall(expression)
        assert names, expression
        known = set().union(*(labels_by_metric[name] for name in names)) | OF_PROMETHEUS
        matched = re.findall(r"(\w+)=~", expression)
        grouped = re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", expression)))
        assert {*matched, *grouped} <= known, expression


def test_kedas_queries_ask_for_metrics_that_the_server_has(labels_by_metric: dict[str, set[str]]) -> None:
    texts = [path.read_text() for path in (ROOT / "deploy").rglob("scaledobject.yaml")]
    parts = [part for text in texts for part in text.split("query:")[1:]]
    assert len(parts) == 6
    for part in parts:
        names = METRIC.findall(part.partition("#")[0])
        assert names
        assert set(names) <= labels_by_metric.keys()


def test_legends_show_labels_that_are_left(labels_by_metric: dict[str, set[str]]) -> None:
    for panel in BOARD["panels"]:
        for target in panel["targets"]:
            (kept,) = re.findall(r"by \(([^)]*)\)", target["expr"])
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert shown == {name.strip() for name in kept.split(",")} - {"le"}, panel["title"]


def test_the_metrics_of_the_server_are_shown(labels_by_metric: dict[str, set[str]]) -> None:
    asked = {re.sub(r"_bucket$", "", name) for text in expressions() for name in METRIC.findall(text)}
    there = {re.sub(r"_(?:bucket|sum|count|created)$", "", name) for name in labels_by_metric}
    assert there - asked == NOT_SHOWN


def test_the_dashboard_is_one_for_grafana() -> None:
    assert isinstance(BOARD["schemaVersion"], int)
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    names = {variable["name"] for variable in BOARD["templating"]["list"]}
    used = set(re.findall(r"\$(\w+)", " ".join(expressions()))) - {"__rate_interval"}
    assert used <= names
