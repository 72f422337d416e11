"""Pictures that ended a worker, or held it for minutes, while a polite client is served."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from tests.attack_pictures import (
    animated_png,
    animation,
    chunk,
    jpeg_of_scans,
    pages,
    png,
    sequential_jpeg_of_scans,
)
from tests.conftest import ROOT
from tests.servers import Server, free_port, serving

SEVEN = (ROOT / "docs" / "seven.png").read_bytes()
PATH = "/predictions/digits"


@pytest.fixture(scope="module")
def server(digits, tmp_path_factory):
    arguments = ["--model-repository", str(digits), "--workers", "2", "--threads", "1"]
    with serving(tmp_path_factory.mktemp("pictures") / "log", *arguments, ready=2) as server:
        yield server


@pytest.mark.parametrize(
    ("data", "status", "said"),
    [
        (animated_png(), 200, "predictions"),
        (animation(".webp"), 200, "predictions"),
        (animation(".gif", 500), 200, "predictions"),
        (pages(), 200, "predictions"),
        (jpeg_of_scans(1000, 5600, 5700), 413, "max_jpeg_scan_pixels"),
        (sequential_jpeg_of_scans(1000, 1000, 1000), 413, "max_jpeg_scan_pixels"),
    ],
    ids=["APNG", "WebP", "GIF", "TIFF", "progressive JPEG", "sequential JPEG"],
)
def test_a_picture_that_does_harm_harms_nobody(server, data, status, said):
    before = server.workers()
    for _ in range(4):  # both workers get one
        answer = server.post(PATH, data)
        assert answer.status == status, answer.body
        assert said in json.loads(answer.body) or said in answer.body.decode()
        assert server.post(PATH, SEVEN).status == 200
        assert server.get("/v2/health/live").status == 200
    assert server.workers() == before


def descendants(pid):
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *descendants(child)]
    return found


def test_a_decoder_that_crashes_costs_one_request_and_no_worker(server):
    for _ in range(4):
        assert server.post(PATH, pages()).status == 200
    workers = server.workers()
    decoders = [
        pid
        for worker in workers
        for pid in descendants(worker)
        if b"decoder_process" in Path(f"/proc/{pid}/cmdline").read_bytes() and not descendants(pid)
    ]
    assert decoders
    for pid in decoders:
        os.kill(pid, signal.SIGSEGV)
    server.wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in decoders), "rid of decoders")
    # any of them may be refused, also the last: a worker is asked when the kernel chooses it
    statuses = [server.post(PATH, pages()).status for _ in range(4 * len(decoders))]
    assert set(statuses) <= {200, 400}
    assert statuses.count(400) <= len(decoders)
    assert server.workers() == workers


def test_decoders_end_with_their_worker(digits, tmp_path):
    with serving(tmp_path / "log", "--model-repository", str(digits), "--workers", "1") as server:
        assert server.post(PATH, pages()).status == 200
        (worker,) = server.workers()
        decoders = descendants(worker)
        assert len(decoders) == 2
        os.kill(worker, signal.SIGKILL)
        server.wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in decoders), "rid of them")


def test_what_libpng_says_stands_in_the_log_as_all_lines_do(server):
    lines = b"".join(b"\x07" + bytes(64 * 3) for _ in range(48))
    bad = png().replace(png()[png().index(b"IDAT") - 4 : -12], chunk(b"IDAT", zlib.compress(lines)))
    assert server.post(PATH, bad).status == 400
    server.wait_until(lambda: "libpng error" in server.text(), "told about the PNG")
    said = [line for line in server.text().splitlines() if "libpng error" in line]
    assert all(re.search(r"WARNING \[\d+\] cpuserve.native: libpng error: ", line) for line in said), said


def target(pid, descriptor):
    """What a descriptor of a process is open on."""
    return str(Path(f"/proc/{pid}/fd/{descriptor}").readlink())


def test_a_server_without_stderr_writes_over_none_of_its_files(digits, tmp_path):
    port = free_port()
    words = [sys.executable, "-m", "cpuserve", "serve", "--port", str(port), "--workers", "1"]
    process = subprocess.Popen(
        ["/bin/sh", "-c", 'exec "$0" "$@" 0<&- 1>&- 2>&-', *words, "--model-repository", str(digits)],
        env={**os.environ, "CPUSERVE_PRESET": "off"},
        start_new_session=True,
    )
    server = Server(process, port, tmp_path / "log")
    server.log.touch()

    def ready():
        try:
            return server.get("/v2/health/ready").status == 200
        except OSError:
            return False

    try:
        server.wait_until(ready, "ready")
        assert {target(process.pid, number) for number in range(3)} == {"/dev/null"}
        (worker,) = server.workers()
        assert target(worker, 2).startswith("pipe:")
        assert server.post(PATH, png()[:-40]).status == 400
        assert server.post(PATH, SEVEN).status == 200
    finally:
        assert server.stop() == 0
