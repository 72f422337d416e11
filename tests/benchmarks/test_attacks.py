"""Each small attack on a real server: no worker ends, and a polite client sees nothing but answers."""

from __future__ import annotations

import json
import threading

import cv2
import numpy as np
import pytest

from benchmarks.attack_kinds import ATTACKS, flat_png, many_scans_jpeg
from benchmarks.attacks import attacked, polite, unharmed
from cpuserve.measuring.local_server import started_server
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    log = tmp_path_factory.mktemp("attacks") / "log"
    words = ["--model-repository", str(ROOT / "ir_models"), "--workers", "2", "--threads", "1"]
    with started_server(*words, log=log) as local:
        yield local
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("name", ATTACKS)
def test_no_worker_ends_and_a_polite_client_is_answered(server, name):
    found = attacked(server, "digits", name, 1.0)
    assert unharmed(found), found


def test_the_polite_client_tells_what_it_did_not_get(server):
    until = threading.Event()
    threading.Timer(0.5, until.set).start()
    seen = polite(server.port, "nobody", until)
    assert seen["predict"]["answered"] == 0
    assert seen["predict"]["other"]["404"] == seen["predict"]["asked"] > 0
    assert seen["live"]["answered"] > 0
    found = {"during": seen, "workers_kept": True}
    assert not unharmed(found)
    seen["predict"] = seen["live"]
    assert unharmed(found)
    assert not unharmed({**found, "workers_kept": False})


def test_the_pictures_are_what_they_say():
    assert cv2.imdecode(np.frombuffer(flat_png(28, 30), np.uint8), cv2.IMREAD_GRAYSCALE).shape == (30, 28)
    few = many_scans_jpeg(width=64, height=48, scans=3)
    assert few.count(b"\xff\xda") == 3
    assert cv2.imdecode(np.frombuffer(few, np.uint8), cv2.IMREAD_GRAYSCALE).shape == (48, 64)


def test_the_page_tells_what_was_measured():
    found = json.loads((ROOT / "docs" / "results" / "attacks.json").read_text())
    page = (ROOT / "docs" / "security.md").read_text()
    assert set(found["attacks"]) == set(ATTACKS)
    for name, one in found["attacks"].items():
        assert unharmed(one), name
        (line,) = [row for row in page.splitlines() if row.startswith(f"| `{name}`")]
        before, during = one["before"]["predict"], one["during"]["predict"]
        assert [cell.strip() for cell in line.split("|")[2:-1]] == [
            str(before["answered"]),
            str(during["answered"]),
            str(during["worst_ms"]),
            str(one["during"]["live"]["worst_ms"]),
            f"{one['rss_mib']['most']:.0f}",
        ]
    assert (
        f"slowest took {max(one['before']['predict']['worst_ms'] for one in found['attacks'].values())} ms"
        in page
    )
