"""`cpuserve health` finds the server that runs here and asks it, whatever its port."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.servers import serving


def health(*words, **environment):
    return subprocess.run(
        [sys.executable, "-m", "cpuserve", "health", *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
def test_a_server_is_found_without_its_port_and_without_a_proxy(host, tmp_path):
    repository = shutil.copytree(ROOT / "ir_models", tmp_path / "models")
    words = ["--workers", "1", "--host", host, "--model-repository", str(repository)]
    with serving(tmp_path / "log", *words) as server:
        pid = ["--pid", str(server.process.pid)]
        done = health(*pid, http_proxy="http://127.0.0.1:9", CPUSERVE_PORT="9")
        assert (done.returncode, f":{server.port}/v2/health/ready: 200" in done.stdout) == (0, True), done
        assert health(*pid, "--quiet").stdout == ""
        shown = f"[{host}]" if ":" in host else host
        assert f"ready at http://{shown}:{server.port}" in server.text()
        assert f"({shown}:{server.port})" in health("--pid", "1").stderr
        (repository / "digits" / "2").mkdir()
        (repository / "digits" / "2" / "model.xml").write_text("<net")
        assert server.post("/v2/repository/models/digits/unload", b"").status == 200
        assert health(*pid).returncode == 1
        assert health(*pid, "--live").returncode == 0


def test_a_process_that_is_no_server_is_refused():
    done = health("--pid", str(os.getpid()))
    assert done.returncode == 2
    assert "is no server of this user" in done.stderr
