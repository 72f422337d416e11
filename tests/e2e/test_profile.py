"""`cpuserve profile` on real servers, with the real py-spy, and without it."""

from __future__ import annotations

import errno
import http.client
import json
import os
import platform
import subprocess
import sys
import threading
from xml.etree import ElementTree as ET

import pytest

from cpuserve.errors import CpuserveError
from cpuserve.profiling.recording import Recording
from cpuserve.profiling.running_server import RunningServer
from tests.conftest import ROOT
from tests.sandbox import refuse
from tests.servers import serving

SEVEN = (ROOT / "docs" / "seven.png").read_bytes()
PTRACE = {"x86_64": 101, "aarch64": 117}.get(platform.machine(), 0)
PROCESS_VM_READV = {"x86_64": 310, "aarch64": 270}.get(platform.machine(), 0)


def profile(*arguments, before=None):
    done = subprocess.run(
        [sys.executable, "-m", "cpuserve", "profile", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=before,  # a filter of system calls for the child
        timeout=110,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def server(digits, tmp_path_factory):
    log = tmp_path_factory.mktemp("profile") / "log"
    with serving(log, "--model-repository", str(digits), "--workers", "2", ready=2) as server:
        yield server


@pytest.fixture
def load(server):
    """Two clients that ask until the test ends."""
    ending = threading.Event()

    def ask():
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        while not ending.is_set():
            connection.request("POST", "/predictions/digits", SEVEN)
            connection.getresponse().read()
        connection.close()

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    yield
    ending.set()
    for client in clients:
        client.join()


def test_a_model_is_served_loaded_watched_and_accounted_for(digits, tmp_path):
    out = tmp_path / "out"
    done = profile("digits", "--model-repository", digits, "--seconds", 1, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["html"] == str(out / "index.html")
    assert told["latency"]["server_share"] == pytest.approx(1, abs=0.001)  # no time is between stages
    assert 0 < told["accounted_share"] < 1.1  # the rest is the clients' own, on a busy machine most of it
    assert {"share", "rate_off", "rate_on", "noise"} <= told["overhead"].keys()
    assert "<html" in (out / "index.html").read_text()
    found = Recording.load_from(out)
    assert found.model == "digits"
    answered = [one for one in found.requests if one.status == 200]
    assert len(answered) >= found.load["statuses"]["200"]
    for one in answered:
        assert sum(end - begin for _, begin, end in one.stages) == one.ended_ns - one.arrived_ns
        assert {"decode", "resize", "infer", "post"} <= {name for name, _, _ in one.stages}
    assert sum(one.images for one in answered) == sum(batch.size for batch in found.batches)
    serve = [track for track in found.threads if track.role == "serve"]
    assert {track.tid for track in serve} >= {one.tid for one in answered}
    assert any(track.role == "arbiter" for track in found.threads)
    assert found.layers
    assert found.settings["decode"] == "fast"
    assert found.placement["seats"]
    if found.stacks is not None and found.stacks.source == "py-spy attach":
        assert any("request_runner.py:" in stack for stack in found.stacks.folded)
        assert ET.parse(out / "flamegraph.svg").getroot().tag.endswith("svg")  # noqa: S314  # our own
        assert json.loads((out / "stacks.speedscope.json").read_text())["profiles"]


def test_a_running_server_is_watched_under_its_own_load_and_left_as_it_was(server, load, tmp_path):
    worker = server.workers()[0]
    done = profile("--pid", worker, "--seconds", 1.5, "--out", tmp_path, "--no-layers", "--quiet")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "index.html")
    found = Recording.load_from(tmp_path)
    assert {one.pid for one in found.requests} <= set(server.workers())
    assert found.requests
    assert found.load == {}
    assert "cpu_share" in found.overhead
    assert "layers: not asked for (--no-layers)" in found.missing
    assert found.settings["workers"] == 2
    setting = server.get("/v2/trace/setting").json()
    assert (setting["trace_level"], setting["stack_rate"]) == (["OFF"], 0)


@pytest.mark.skipif(not PTRACE, reason="the numbers of this machine's system calls are not written down here")
def test_where_py_spy_may_not_attach_workers_look_at_themselves(server, load, tmp_path):
    def forbid():
        refuse(PROCESS_VM_READV, errno.EPERM)
        refuse(PTRACE, errno.EPERM)

    url = f"http://127.0.0.1:{server.port}"
    done = profile("--url", url, "--seconds", 2, "--out", tmp_path, "--no-layers", before=forbid)
    assert done.returncode == 0, done.stderr
    found = Recording.load_from(tmp_path)
    assert found.stacks.source == "in-process sampler"
    assert any("request_runner.py:" in stack for stack in found.stacks.folded)
    (line,) = [line for line in found.missing if line.startswith("py-spy may not attach")]
    assert "SYS_PTRACE" in line
    assert f"not seen: {line}" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_another_users_server_is_refused_with_the_line_that_is_missing(server):
    for pid, port in ((server.process.pid, None), (None, server.port)):
        said = as_nobody(lambda pid=pid, port=port: RunningServer.at(pid, port))
        assert "sudo -u '#0'" in said
        assert "SYS_PTRACE" in said


def as_nobody(call):
    """What a call raises as another user, in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.setgid(65534)
        os.setuid(65534)
        try:
            call()
        except CpuserveError as error:
            os.write(writing, str(error).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name what to profile"),
        (("digits", "--pid", "1"), "name what to profile"),
        (("--pid", "1", "--max-batch", "2"), "settings are for a server that is started here"),
        (("--url", "localhost"), "write it as http://HOST:PORT"),
        (("--url", "http://127.0.0.1:1"), "port 1 is no cpuserve server"),
        (("digits", "--model", "other"), "--model other is for --pid and --url"),
        (("--pid", str(os.getpid())), "is no cpuserve server"),
    ],
)
def test_wrong_words_are_refused(words, said):
    done = profile(*words)
    assert done.returncode == 2
    assert said in done.stderr
