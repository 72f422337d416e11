"""A short run of everything that fails around a server, and what its clients count as wrong."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from benchmarks import faults
from benchmarks.fault_clients import Client, Tally
from benchmarks.fixtures.weights_model import INPUTS, OUTPUTS, write_weights_model
from cpuserve.measuring.local_server import free_port, started_server
from cpuserve.serving.openvino_core import openvino_core
from tests.conftest import ROOT


def test_the_weights_model_answers_its_weights(tmp_path):
    write_weights_model(tmp_path / "m", 2.0)
    compiled = openvino_core().compile_model(tmp_path / "m" / "model.xml", "CPU")
    (answer,) = compiled(np.ones((1, INPUTS), np.float32)).values()
    assert np.array_equal(answer, np.full((1, OUTPUTS), 2.0 * INPUTS))


@pytest.mark.timeout(180)
def test_half_a_minute_of_faults(tmp_path, monkeypatch):
    for name, value in (
        ("_RELOAD_EVERY_S", 2),
        ("_BREAK_EVERY_S", 5),
        ("_BROKEN_FOR_S", 3),
        ("_KILL_EVERY_S", 8),
    ):
        monkeypatch.setattr(faults, name, value)
    repository = faults.make_repository(tmp_path, ROOT / "ir_models" / "digits")
    words = ["--model-repository", str(repository), "--workers", "2", "--threads", "4", "--rate-limit", "500"]
    port = free_port()
    words += ["--grpc-port", str(port)]
    with started_server(*words, log=tmp_path / "log") as local:
        picture = (ROOT / "docs" / "seven.png").read_bytes()
        found = faults.with_faults(
            local, repository, picture, seconds=20, clients=8, over_grpc=4, grpc_port=port
        )
    assert faults.passed(found, most_growth=1.0, clients=8), found
    assert found["faults"]["workers killed"] and found["faults"]["files overwritten"], found
    assert found["answers"]["tensor"]["200"] and found["answers"]["picture"]["200"], found
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("status", "body", "wrong"),
    [
        (200, b'{"predictions": [{"label": "7"}]}', ""),
        (200, b'{"predictions": [{"label": "1"}]}', "picture: 1"),
        (503, b'{"error": "not ready"}', 'picture: 503 {"error": "not ready"}'),
        (503, b'{"error": "9 requests are waiting, the limit is 8"}', ""),
    ],
)
def test_a_client_tells_what_is_wrong(status, body, wrong):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):  # the base class's
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            until.set()

        def log_message(self, *_):
            pass

    tally, until = Tally(), threading.Event()
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        Client(server.server_port, b"", tally, number=1).ask(until)
        thread.join()
    assert tally.figures()["wrong"] == ([wrong] if wrong else [])


def test_the_page_tells_what_the_faults_did():
    found = json.loads((ROOT / "docs" / "results" / "faults.json").read_text())
    assert faults.passed(found, most_growth=0.05, clients=found["clients"])

    page = (ROOT / "docs" / "security.md").read_text()
    right, refused = (
        sum(found["answers"][kind][code] for kind in ("picture", "tensor")) for code in ("200", "429")
    )
    for row in (
        f"minutes | {found['minutes']:g}",
        f"workers killed | {found['faults']['workers killed']}",
        f"files overwritten | {found['faults']['files overwritten']}",
        f"right answers | {right:,}",
        f"refused by the rate limit | {refused:,}",
        f"wrong answers or 5xx | {len(found['wrong'])}",
        f"connections that ended with their worker | {found['resets']}",
        f"slowest answer, s | {found['slowest_s']}",
        f"change of memory | {100 * found['growth']:+.1f} %",
        f"seconds from the last fault until all models were ready | {found['ready_s']}",
    ):
        assert f"\n| {row} |\n" in page
