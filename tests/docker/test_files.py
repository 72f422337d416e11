"""What docker/ promises, read from its files: one base, locked packages, no privilege, nothing left over."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

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
    (name, base) = INSTRUCTIONS[0][0], INSTRUCTIONS[0][1].removeprefix("BASE=")
    assert name == "ARG"
    stages = arguments("FROM", INSTRUCTIONS)
    assert [stage.split(" AS ")[0] for stage in stages] == ["${BASE}", "${BASE}"]
    minimum = re.search(r'requires-python = ">=(.+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert re.fullmatch(rf"python:{re.escape(minimum)}\.\d+-slim-\w+@sha256:[0-9a-f]{{64}}", base)


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
    assert set(settings.origin) == {"host", "port", "model_repository", "tuning_dir"}
    assert len(known) == 4
    assert (settings.host, str(settings.port)) == ("0.0.0.0", arguments("EXPOSE")[0])
    # Set here they would outvote what each worker sets for its own seat.
    assert not [name for name in environment if name.startswith(("OMP_", "KMP_", "GOMP_"))]


def test_the_health_check_is_the_command_for_it():
    command = arguments("HEALTHCHECK")[0].partition("CMD ")[2]
    assert json.loads(command) == ["cpuserve", "health", "--quiet"]


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
    named = set(re.findall(r"-f docker/(\S+\.yaml)", readme))
    assert named == {file.name for file in (ROOT / "docker").glob("compose*.yaml")} - {"compose.profile.yaml"}
    assert "`compose.profile.yaml`" in readme
    nodes = (ROOT / "docker" / "compose.nodes.yaml").read_text()
    assert set(re.findall(r"export (NODE\d_CPUS)=", readme)) == set(re.findall(r"\$\{(\w+):\?", nodes))
    for target in re.findall(r"\]\(([^)]+)\)", readme):
        assert (ROOT / "docker" / target).exists(), target


def test_the_image_has_a_fixed_tag():
    (image,) = re.findall(r"^\s*image: (.+)$", (ROOT / "docker" / "server.yaml").read_text(), re.MULTILINE)
    assert re.fullmatch(r"[\w/-]+:(?!latest$)\w+", image)


def read(name):
    yaml = pytest.importorskip("ruamel.yaml", reason="no YAML reader here (check-jsonschema brings one)")
    return yaml.YAML(typ="safe").load((ROOT / "docker" / name).read_text())["services"]


@pytest.fixture(scope="module")
def services():
    """Every service with what it extends."""
    base, found = read("server.yaml")["server"], {}
    for file in ("compose.yaml", "compose.nodes.yaml"):
        for name, service in read(file).items():
            assert service.pop("extends") == {"file": "server.yaml", "service": "server"}
            assert not set(service) & set(base), "lists of both would be joined"
            found[name] = {**base, **service}
    return found


def test_no_service_has_more_rights_than_it_needs(services):
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["tmpfs"] == ["/tmp"], name  # noqa: S108
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"user", "cpus", "cpu_quota", "privileged", "cap_add"} & set(service), name


def test_without_a_profile_the_machine_is_one_service_and_nodes_need_their_cpus(services):
    assert [*read("compose.yaml")] == ["whole"]
    assert not [name for name, service in services.items() if "profiles" in service]
    assert "cpuset" not in services["whole"]
    for number in (0, 1):
        node = services[f"node{number}"]
        assert re.match(rf"\$\{{NODE{number}_CPUS:\?", node["cpuset"]), "a lost variable must be an error"
        assert node["ports"] == [f"800{number}:8000"]


@pytest.mark.parametrize("name", ["compose.yaml", "compose.nodes.yaml"])
def test_volumes_of_models_and_presets_are_declared(name, services):
    yaml = pytest.importorskip("ruamel.yaml", reason="no YAML reader here (check-jsonschema brings one)")
    declared = yaml.YAML(typ="safe").load((ROOT / "docker" / name).read_text())["volumes"]
    mounts = dict(entry.removesuffix(":ro").rsplit(":", 1) for entry in services["whole"]["volumes"])
    assert {default[:-1] for default in (mount.rpartition("-")[2] for mount in mounts)} == set(declared)
    assert sorted(mounts.values()) == ["/models", "/tuning"]


def test_the_stop_grace_period_is_longer_than_the_shutdown_timeout(services):
    from cpuserve.settings import Settings

    for service in services.values():
        assert int(service["stop_grace_period"].removesuffix("s")) > Settings().shutdown_timeout_s


@pytest.mark.parametrize(("name", "capability"), [("profile", "SYS_PTRACE"), ("sys-nice", "SYS_NICE")])
def test_an_overlay_adds_one_capability_to_a_service_that_is_there(services, name, capability):
    assert read(f"compose.{name}.yaml") == {"whole": {"cap_add": [capability]}}


def test_the_image_has_what_grpc_needs():
    names = re.findall(r"^([\w.-]+)==", (ROOT / "requirements" / "serve.lock").read_text(), re.MULTILINE)
    assert {"grpcio", "protobuf"} <= set(names)
