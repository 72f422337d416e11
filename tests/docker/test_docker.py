"""The image built and run: a photo answered, seats right inside, the memory policy refused and granted.

Deselected unless asked for (`make test-docker`): it installs Debian packages and needs root.
"""

from __future__ import annotations

import datetime
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from cpuserve.machine.budget import Budget
from cpuserve.machine.files import format_cpulist, parse_cpulist
from cpuserve.machine.fingerprint import Fingerprint
from cpuserve.machine.topology import Topology
from tests.docker.containers import IMAGE, Container, container, docker_profile, engineless
from tests.servers import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
CLASSIFIER = "mobilenet_v2_1.0_224_frozen"  # of the catalogue
PARTS = {"image", "files", "refused", "granted", "nodes", "kserve"}  # of the result file
REFUSED = re.compile(r"seat (\d+): memory policy: first touch, .* gave EPERM \(.*CAP_SYS_NICE")

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def result(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """What was seen; goes to the file CPUSERVE_CONTAINER_RESULT names when every test has passed."""
    seen: dict[str, Any] = {}
    failed = request.session.testsfailed
    yield seen
    file = os.environ.get("CPUSERVE_CONTAINER_RESULT")
    if file and request.session.testsfailed == failed and seen.keys() == PARTS:
        budget, topology = Budget.read(), Topology.read()
        document = {
            "command": "make test-docker",
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": Fingerprint.read(Path("/"), budget, topology).short,
            **{part: seen[part] for part in sorted(seen)},
        }
        Path(file).write_text(json.dumps(document, indent=1) + "\n")


@pytest.fixture(scope="module")
def image(result: dict[str, Any]) -> str:
    """The image of this checkout."""
    need = engineless("need", check=False)
    if need.returncode == 77:
        pytest.skip(need.stdout.strip())
    assert need.returncode == 0, need.stderr
    engineless("base")
    engineless("build", IMAGE)
    described = json.loads(engineless("podman", "image", "inspect", IMAGE).stdout)[0]
    versions = [
        subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
        for tool in ("buildah", "podman", "crun")
    ]
    result["image"] = {
        "base": "Debian 12 with its Python 3.11, in place of the base image",
        "tools": versions,
        "size_mb": round(described["Size"] / 1e6),
        "config": {name: value for name, value in described["Config"].items() if name != "Labels"},
        "healthcheck": described["Healthcheck"]["Test"],
    }
    return IMAGE


@pytest.fixture(scope="module")
def profile(image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Options that put a container under Docker's rule for memory policies."""
    return f"seccomp={docker_profile(tmp_path_factory.mktemp('profile'))}"


def linters() -> Path:
    """The directory of hadolint and check-jsonschema: this environment's, or one made for them."""
    here = Path(sys.executable).parent
    if all((here / tool).exists() for tool in ("hadolint", "check-jsonschema")):
        return here
    return Path(engineless("linters").stdout.strip())


def is_answered(server: Container) -> dict[str, Any]:
    """Health is good, and the picture in the README is a seven."""
    assert server.get("/v2/health/live").status == 200
    assert server.get("/v2/health/ready").status == 200
    answer = server.post("/predictions/digits", (ROOT / "docs" / "seven.png").read_bytes())
    assert answer.status == 200, answer.body
    best: dict[str, Any] = answer.json()["predictions"][0]
    assert (best["label"], best["probability"] > 0.9) == ("7", True)
    return best


def seats_as_planned(server: Container, seen: dict[str, Any]) -> list[dict[str, Any]]:
    """Every thread of every worker has the mask of its seat in the log; no two seats overlap."""
    seats, worker_pids = server.planned(), server.worker_pids()
    taken: list[int] = []
    rows = []
    for number, seat in seats.items():
        process = seen["processes"][worker_pids[number]]
        assert set(process["masks"]) == {seat["cpus"]}, f"seat {number}: {process['masks']}"
        masked = {"threads_with_this_mask": len(process["masks"]), "policy": process["policies"]}
        rows.append({"seat": number, **seat, **masked})
        taken += parse_cpulist(seat["cpus"])
    assert len(taken) == len(set(taken)), seats
    return rows


def is_confined(seen: dict[str, Any]) -> dict[str, Any]:
    """Nobody inside is root, has a capability or can write where the image is."""
    first = seen["processes"]["1"]
    assert "cpuserve serve" in first["command"]
    for process in seen["processes"].values():
        assert process["status"]["Uid"].split() == ["10001"] * 4
        assert int(process["status"]["CapEff"], 16) == 0
    assert seen["writable"] == ["/tmp", "/dev/shm"]  # noqa: S108
    assert seen["compilers"] == []
    names = ("Uid", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp")
    return {name: first["status"][name].strip() for name in names} | {"writable": seen["writable"]}


def stops(server: Container) -> int:
    code = server.stop()
    assert code == 0, server.text()
    assert "Shutting down: Master" in server.text()
    return code


def test_the_files_are_valid(image, result):
    tools = linters()
    checks = {
        "hadolint": [str(tools / "hadolint"), "docker/Dockerfile"],
        "check-jsonschema": [
            *(str(tools / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec"),
            *(str(file.relative_to(ROOT)) for file in sorted((ROOT / "docker").glob("*.yaml"))),
        ],
    }
    for name, command in checks.items():
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
    result["files"] = {"docker/Dockerfile": "hadolint: nothing", "docker/*.yaml": "compose-spec: valid"}


def test_the_image_says_how_it_is_run(image, result):
    config, health = result["image"]["config"], result["image"]["healthcheck"]
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] in {"SIGTERM", "15"}
    assert (config["Entrypoint"], config["Cmd"]) == (["cpuserve"], ["serve"])
    assert "8000/tcp" in config["ExposedPorts"]
    assert health == ["CMD", "cpuserve", "health", "--quiet"]


def test_without_the_capability_the_policy_is_refused_and_the_server_serves(image, profile, result, tmp_path):
    with container(tmp_path / "log", "--security-opt", profile) as server:
        answer = is_answered(server)
        seen = server.look()
        seats = seats_as_planned(server, seen)
        assert all(set(row["policy"]) == {"default"} for row in seats)
        troubles = server.troubles()
        told = [
            re.search(r"seat (\d+): memory policy: .* gave EPERM \(.*CAP_SYS_NICE", line) for line in troubles
        ]
        assert sorted(int(match[1]) for match in told if match) == sorted(server.planned())
        assert len(troubles) == len(seats), troubles
        confined = is_confined(seen)
        assert confined["Seccomp"] == "2"
        assert confined["NoNewPrivs"] == "1"
        health = server.execute(*result["image"]["healthcheck"][1:])
        assert health.returncode == 0, health.stderr
        doctor = server.execute("cpuserve", "doctor")
        assert doctor.returncode == 0, doctor.stdout + doctor.stderr
        code = stops(server)
        result["refused"] = {
            "options": "no capability, Docker's seccomp rule, read-only root",
            "answer": answer,
            "seats": seats,
            "log": [line.partition(" WARNING ")[2] for line in troubles],
            "confined": confined,
            "healthcheck": health.returncode,
            "doctor": doctor.stdout.splitlines()[-1],
            "exit_code": code,
        }


def test_with_the_capability_the_policy_is_granted(image, profile, result, tmp_path):
    with container(tmp_path / "log", "--security-opt", profile, "--cap-add", "SYS_NICE") as server:
        answer = is_answered(server)
        seats = seats_as_planned(server, server.look())
        for row in seats:
            # OpenVINO binds some mappings of its own; all others have the policy of the process.
            assert max(row["policy"], key=row["policy"].get) == f"prefer:{row['node']}"
            assert "default" not in row["policy"]
        assert server.troubles() == []
        code = stops(server)
        result["granted"] = {
            "options": "the same with CAP_SYS_NICE",
            "answer": answer,
            "seats": seats,
            "exit_code": code,
        }


def test_kserves_arguments_serve_a_photo_as_its_user_until_sigterm_drains(
    image, profile, result, tmp_path, data_dir
):
    """What KServe's controller adds to the runtime in deploy/kserve: its user, /mnt/models, its arguments."""
    (runtime,) = yaml.safe_load_all((ROOT / "deploy/kserve/clusterservingruntime.yaml").read_text())
    (described,) = runtime["spec"]["containers"]
    port, grpc_port = free_port(), free_port()
    pulled = [*(sys.executable, "-m", "cpuserve", "pull", CLASSIFIER, "--mirror", str(data_dir / "models"))]
    subprocess.run([*pulled, "--model-repository", str(tmp_path / "models"), "--quiet"], check=True)
    photo = (data_dir / "images" / "bee.jpeg").read_bytes()
    written = [word.replace("{{.Name}}", "classifier") for word in described["args"]]
    words = [
        {"--rest_port=8080": f"--rest_port={port}", "--port=9000": f"--port={grpc_port}"}.get(word, word)
        for word in written
    ]
    user = f"{described['securityContext']['runAsUser']}:0"
    mounted = ("--volume", f"{tmp_path / 'models' / CLASSIFIER}:/mnt/models:ro")
    inside = ("--user", user, "--security-opt", profile, *mounted)
    with container(tmp_path / "log", *inside, words=words, port=port) as server:
        assert server.get("/v2/models/classifier/ready").status == 200
        answered = server.post("/predictions/classifier", photo)
        assert answered.status == 200, answered.body
        answer = answered.json()["predictions"][0]
        assert (answer["label"], answer["probability"] > 0.5) == ("bee", True)
        seen = server.look()
        first = seen["processes"]["1"]["status"]
        assert first["Uid"].split() == [user.partition(":")[0]] * 4
        assert int(first["CapEff"], 16) == 0
        assert seen["writable"] == ["/tmp", "/dev/shm"]  # noqa: S108
        with ThreadPoolExecutor(1) as client:
            drained = client.submit(answered_until_the_end, port, photo)
            time.sleep(1)
            code = stops(server)
            answers = drained.result(timeout=60)
        assert answers.keys() <= {200, 503}
        assert answers[200] > 1
        result["kserve"] = {
            "options": "the arguments and the user of deploy/kserve, read-only root, no capability",
            "arguments": written,
            "user": first["Uid"].split()[0],
            "model": CLASSIFIER,
            "photo": "bee.jpeg",
            "answer": answer,
            "answers_by_status_until_the_exit": {str(status): count for status, count in answers.items()},
            "requests_cut_off": 0,
            "exit_code": code,
        }


def answered_until_the_end(port: int, photo: bytes) -> Counter[int]:
    """Ask over and over, each time on a new connection, until none is accepted any more.

    Raises:
        http.client.HTTPException, ConnectionResetError: A request that was sent got no whole answer.
    """
    answers: Counter[int] = Counter()
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.connect()
        except ConnectionRefusedError:
            return answers
        with closing(connection):
            connection.request("POST", "/predictions/classifier", photo, {"Content-Type": "image/jpeg"})
            response = connection.getresponse()
            response.read()
            answers[response.status] += 1


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="takes two CPUs")
@pytest.mark.skipif(shutil.which("taskset") is None, reason="no taskset")
def test_two_services_stay_on_their_own_cpus(image, profile, result, tmp_path):
    mine = sorted(os.sched_getaffinity(0))
    halves = [format_cpulist(half) for half in (mine[: len(mine) // 2], mine[len(mine) // 2 :])]
    options = ("--security-opt", profile)
    with (
        container(tmp_path / "first", *options, cpus=halves[0]) as first,
        container(tmp_path / "second", *options, cpus=halves[1]) as second,
    ):
        services = []
        for server, half in zip((first, second), halves, strict=True):
            seats = seats_as_planned(server, server.look())
            assert {cpu for row in seats for cpu in parse_cpulist(row["cpus"])} <= set(parse_cpulist(half))
            services.append({"cpus": half, "answer": is_answered(server), "seats": seats})
        for server, row in zip((first, second), services, strict=True):
            row["exit_code"] = stops(server)
        result["nodes"] = {
            "options": "two at once, each with half of the CPUs in its mask",
            "services": services,
        }
