"""KServe's runtime for OpenVINO Model Server with another image: its arguments, its users, its mounts."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tritonclient import grpc as triton
from tritonclient import http as triton_http

from tests.conftest import ROOT
from tests.pods import pod, why_no_pod
from tests.servers import START_TIMEOUT_S, Server, free_port

WAIT_S = 60
ARGUMENTS = (  # what the runtime kserve-openvino gives its container, but for the numbers of the ports
    *("--model_name=seven", "--model_path=/mnt/models", "--port={grpc}", "--rest_port={rest}"),
    "--file_system_poll_wait_seconds=0",
)
# what the image sets; the runtime's arguments count more
IMAGE = dict(re.findall(r"(CPUSERVE_\w+)=(\S+)", (ROOT / "docker" / "Dockerfile").read_text()))
SEVEN = (ROOT / "docs" / "seven.png").read_bytes()
LAYOUTS = {
    "files": "mkdir /mnt/models && mount --bind {version} /mnt/models",
    # as Kubernetes mounts a ConfigMap: each file a link into a directory that is a link
    "links": "mkdir /mnt/models /mnt/models/..1 && cp {version}/model.* /mnt/models/..1 && cd /mnt/models && "
    "ln -s ..1 ..data && ln -s ..data/model.xml ..data/model.bin .",
    "versions": "mkdir /mnt/models && mount --bind {model} /mnt/models",
    # the container of a model shares its processes, and its root is the target of a link
    "link": "mkdir /mnt/else && mount --bind {above} /mnt/else && ln -s /mnt/else/models /mnt/models",
    "root": "ln -s /proc/{pid}/root/mnt/models /mnt/models",
}


def infer(module, port):
    """The answer to the picture of a seven, as bytes."""
    client = module.InferenceServerClient(f"127.0.0.1:{port}")
    sent = module.InferInput("image", [1], "BYTES")
    sent.set_data_from_numpy(np.array([SEVEN], dtype=object))
    answer = client.infer("seven", [sent]).as_numpy("probabilities")
    client.close()
    assert answer.argmax() == 7
    return answer.tobytes()


def check(server: Server) -> None:
    """V1, V2 and gRPC answer alike."""
    server.wait_until(
        lambda: server.ready_workers() and server.get("/v2/health/ready").status == 200, "ready"
    )
    assert server.get("/v1/models/seven").json()["model_version_status"][0]["state"] == "AVAILABLE"
    body = json.dumps({"instances": [{"b64": base64.b64encode(SEVEN).decode()}]})
    v1 = server.post("/v1/models/seven:predict", body.encode()).json()["predictions"][0]
    assert int(np.argmax(v1)) == 7
    over_http, over_grpc = infer(triton_http, server.port), infer(triton, server.grpc_port)
    assert over_http == over_grpc
    assert np.allclose(v1, np.frombuffer(over_grpc, np.float32))
    assert server.get("/metrics").status == 200


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Directories that users without rights can read once they are bound."""
    above = tmp_path_factory.mktemp("pod")
    shutil.copytree(ROOT / "ir_models" / "digits" / "1", above / "models")
    shutil.copytree(ROOT / "ir_models" / "digits", above / "digits")
    for folder in (above / "models", above / "digits"):  # what lies beside models on volumes and in downloads
        (folder / "lost+found").mkdir()
        (folder / "README.md").write_text("# Seven\n")
        (folder / ".gitattributes").write_text("*.bin binary\n")
    subprocess.run(["chmod", "-R", "u=rwX,go=rX", str(above)], check=True)
    for folder in (above / "models", above / "digits"):
        (folder / "lost+found").chmod(0o700)  # root's alone
    return above


@contextmanager
def another_container(models, uid):
    """A process with the models below its own root, as the container of a model; gives its number."""
    mounts = f"mount -t tmpfs none /mnt && mkdir /mnt/models && mount --bind {models} /mnt/models"
    drop = f"setpriv --reuid {uid} --regid 0 --clear-groups"
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-ec", f"{mounts}; exec {drop} sh -c 'echo there; exec sleep 600'"],
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout.readline() == b"there\n"
        yield process.pid
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize(
    ("uid", "layout", "environment"),
    [
        (5000, "files", {}),
        (5000, "versions", {"HOME": "/", **IMAGE}),
        (5000, "link", {}),
        (1_000_650_000, "links", {}),
        (1_000_650_000, "root", {"HOME": "/nonexistent"}),
    ],
)
def test_its_arguments_alone_start_the_server_for_any_user(model, tmp_path, uid, layout, environment):
    if reason := why_no_pod(uid):
        pytest.skip(reason)
    with another_container(model / "models", uid) as other:
        prepare = LAYOUTS[layout].format(
            pid=other, version=model / "models", model=model / "digits", above=model
        )
        words = (*ARGUMENTS, "--rest_bind_address=127.0.0.1")
        with pod(tmp_path / "log", uid, prepare, *words, **environment) as server:
            check(server)
            assert {Path(f"/proc/{pid}").stat().st_uid for pid in server.workers()} == {uid}
            assert server.stop() == 0
            assert not re.search(r"Traceback|ERROR|WARN", server.text()), server.text()


def test_without_rights_to_change_the_user(model, tmp_path):
    ports = {"rest": free_port(), "grpc": free_port()}
    words = [word.format(**ports).replace("/mnt/models", str(model / "models")) for word in ARGUMENTS]
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cpuserve", *words],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**environment, "CPUSERVE_PRESET": "off"},
        )
    server = Server(process, ports["rest"], log)
    server.grpc_port = ports["grpc"]
    try:
        check(server)
    finally:
        assert server.stop() == 0


def test_a_path_without_a_model_ends_at_once_with_its_name(tmp_path):
    words = shlex.split("--model_name=seven --model_path=/nonexistent/models --port=9000 --rest_port=8080")
    run = subprocess.run(
        [sys.executable, "-m", "cpuserve", *words],
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
        cwd=tmp_path,
    )
    assert run.returncode == 1
    assert (
        run.stderr.strip()
        .splitlines()[-1]
        .startswith("cpuserve: error: no model 'seven' in /nonexistent/models")
    )
