"""What docker/ promises, read from its files: one base, locked packages, no privilege, nothing left over."""

from __future__ import annotations

import http.server
import json
import re
import shlex
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
INSTRUCTIONS = [
    line.split(maxsplit=1)
    for line in re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)).splitlines()
    if line
]
FINAL = INSTRUCTIONS[[name for name, _ in INSTRUCTIONS].index("FROM", 2) :]


def arguments(name, instructions=FINAL):
    return [rest for instruction, rest in instructions if instruction == name]


def test_both_stages_use_the_same_python():
    assert INSTRUCTIONS[0] == ["ARG", "BASE=python:3.11-slim"]
    stages = arguments("FROM", INSTRUCTIONS)
    assert [stage.split(" AS ")[0] for stage in stages] == ["${BASE}", "${BASE}"]
    minimum = re.search(r'requires-python = ">=(.+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert f"python:{minimum}-slim" == INSTRUCTIONS[0][1].removeprefix("BASE=")


def test_only_locked_wheels_are_installed():
    installs = [command for command in arguments("RUN", INSTRUCTIONS) if " install " in command]
    assert len(installs) == 2
    assert "--require-hashes -r requirements/serve.lock" in installs[0]
    assert "--only-binary :all:" in installs[0]
    assert "--no-deps --no-build-isolation ." in installs[1]


@pytest.mark.parametrize("lock", ["serve.lock", "test.lock"])
def test_every_package_of_the_locks_has_a_version_and_hashes(lock):
    text = (ROOT / "requirements" / lock).read_text().replace("\\\n", " ")
    packages = [line for line in text.splitlines() if line.strip()]
    assert len(packages) > 10
    for package in packages:
        assert re.match(r"[\w.\[\]-]+==[\w.!+]+(?: ;[^#]*?)? +--hash=sha256:[0-9a-f]{64}", package), package


def test_the_final_stage_only_copies_what_was_built():
    assert arguments("RUN") == []
    assert arguments("COPY") == [
        "--from=build /opt/cpuserve /opt/cpuserve",
        "--from=build /models /models",
    ]


def test_the_server_runs_as_an_unprivileged_user():
    user = arguments("USER")[-1]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert arguments("STOPSIGNAL") == ["SIGTERM"]
    assert json.loads(arguments("ENTRYPOINT")[0]) == ["cpuserve"]
    assert json.loads(arguments("CMD")[0]) == ["serve"]


def test_the_variables_of_the_image_are_settings():
    from cpuserve.settings import load

    environment = dict(word.split("=", 1) for word in shlex.split(arguments("ENV")[0]))
    known = {name: value for name, value in environment.items() if name.startswith("CPUSERVE_")}
    settings = load(environ=known)
    assert len(set(settings.origin) & {"host", "port", "model_repository"}) == len(known) == 3
    assert (settings.host, str(settings.port)) == ("0.0.0.0", arguments("EXPOSE")[0])
    # Set here they would outvote what each worker sets for its own seat.
    assert not [name for name in environment if name.startswith(("OMP_", "KMP_", "GOMP_"))]


@contextmanager
def answering(status):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path == "/v2/health/ready" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def check_health(port, **environment):
    command = json.loads(arguments("HEALTHCHECK")[0].partition("CMD ")[2])
    assert command[0] == "python"
    environment["CPUSERVE_PORT"] = str(port)
    return subprocess.run(
        [sys.executable, *command[1:]], env=environment, capture_output=True, check=False
    ).returncode


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_asks_the_server_and_no_proxy(status, healthy):
    with answering(status) as port:
        assert (check_health(port, http_proxy="http://127.0.0.1:9") == 0) is healthy


def test_the_health_check_fails_without_a_server():
    assert check_health(free_port()) != 0


def test_the_build_context_holds_only_what_is_copied():
    copied = [rest.split()[:-1] for rest in arguments("COPY", INSTRUCTIONS) if "--from" not in rest]
    wanted = sorted(name for names in copied for name in names)
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert sorted(rule[1:] for rule in rules if rule.startswith("!")) == wanted
    for name in wanted:
        assert (ROOT / name).exists(), name


def test_the_readme_names_what_there_is():
    readme = (ROOT / "docker" / "README.md").read_text()
    compose = (ROOT / "docker" / "compose.yaml").read_text()
    profiles = set(re.findall(r"profiles: \[(\S+)\]", compose))
    assert set(re.findall(r"--profile (\S+)", readme)) == profiles
    assert set(re.findall(r"export (NODE\d_CPUS)=", readme)) == set(re.findall(r"\$\{(\w+):-", compose))
    for target in re.findall(r"\]\(([^)]+)\)", readme):
        assert (ROOT / "docker" / target).exists(), target


def test_every_image_has_a_fixed_tag():
    compose = (ROOT / "docker" / "compose.yaml").read_text()
    named = re.findall(r"^\s*image: (.+)$", compose, flags=re.MULTILINE)
    named.append(INSTRUCTIONS[0][1].removeprefix("BASE="))
    assert len(named) >= 2
    for image in named:
        tag = image.rpartition(":")[2]
        assert ":" in image, image
        assert tag != "latest", image


@pytest.fixture(scope="module")
def services():
    yaml = pytest.importorskip("ruamel.yaml", reason="no YAML reader here (check-jsonschema brings one)")
    return yaml.YAML(typ="safe").load((ROOT / "docker" / "compose.yaml").read_text())["services"]


def test_no_service_has_more_rights_than_it_needs(services):
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["tmpfs"] == ["/tmp"], name  # noqa: S108
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name
        assert not {"user", "cpus", "cpu_quota"} & set(service), name
    assert {name: service["cap_add"] for name, service in services.items() if "cap_add" in service} == {
        "whole-sys-nice": ["SYS_NICE"]
    }


def test_compose_has_a_service_for_each_node_and_one_for_the_machine(services):
    nodes = [service for service in services.values() if service["profiles"] == ["nodes"]]
    assert [service["cpuset"] for service in nodes] == ["${NODE0_CPUS:-0}", "${NODE1_CPUS:-1}"]
    assert [service["ports"] for service in nodes] == [["8000:8000"], ["8001:8000"]]
    others = [service for service in services.values() if service not in nodes]
    assert others
    for service in others:
        assert "cpuset" not in service
        assert service["ports"] == ["8000:8000"]


def test_the_stop_grace_period_is_longer_than_the_shutdown_timeout(services):
    from cpuserve.settings import Settings

    for service in services.values():
        assert int(service["stop_grace_period"].removesuffix("s")) > Settings().shutdown_timeout_s


def test_the_profiling_overlay_adds_one_capability_to_services_that_are_there(services):
    yaml = pytest.importorskip("ruamel.yaml", reason="no YAML reader here (check-jsonschema brings one)")
    file = ROOT / "docker" / "compose.profile.yaml"
    overlay = yaml.YAML(typ="safe").load(file.read_text())["services"]
    assert set(overlay) <= set(services)
    assert all(service == {"cap_add": ["SYS_PTRACE"]} for service in overlay.values())


def test_the_image_has_what_grpc_needs():
    names = re.findall(r"^([\w.-]+)==", (ROOT / "requirements" / "serve.lock").read_text(), re.MULTILINE)
    assert {"grpcio", "protobuf"} <= set(names)
