"""Files name no place of the machine they were written on: no directory of its own, no host it asks."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.conftest import ROOT

SYSTEM = {"bin", "dev", "etc", "lib", "media", "mnt", "opt", "path", "proc", "srv", "sys", "tmp", "usr"}
ROUTES = {
    "components",
    "inference.GRPCInferenceService",
    "labelmap",
    "labels",
    "models",
    "page",
    "predictions",
    "services",
    "v1",
    "v2",
    "versions",
}
MADE_UP = {
    "cg",
    "docker",
    "home",
    "kubepods",
    "kubepods.slice",
    "system.slice",
    "lab",
    "mine",
    "modules",
    "nonexistent",
    "pods",
    "root",
    "scratch",
    "stuck",
}
PUBLIC = {  # where models, papers, licences, formats and tools are that readers are told of
    *("creativecommons.org", "docs.openvino.ai", "docs.ray.io", "doi.org", "example.org", "github.com"),
    *("git-lfs.github.com", "json-schema.org", "protobuf.dev", "raw.githubusercontent.com"),
    "ui.perfetto.dev",
    *("www.apache.org", "www.speedscope.app", "www.w3.org"),
}
POINTERS = {"definitions", "spec"}  # into JSON documents
API_GROUPS = {  # that manifests of Kubernetes name; no host has these names
    *(
        "app.kubernetes.io",
        "balloon.balloons.resource-policy.nri.io",
        "kubelet.config.k8s.io",
        "kubernetes.io",
    ),
    *("kustomize.config.k8s.io", "prometheus.kserve.io", "serving.kserve.io", "sidecar.istio.io"),
    *("monitoring.coreos.com", "type.googleapis.com"),
}
PATH = re.compile(r"(?<![\w.~\])}>/*<%+-])/([a-zA-Z][\w.-]+)/\w[\w.-]*")
HOST = re.compile(r"(?<![\w.])(?:[a-z0-9-]+\.)+(?:ai|com|dev|io|org)\b(?![.(\w])")
ADDRESS = re.compile(r"https?://((?:[\w-]+\.)+[a-z]+)\b")
SKIPPED = {".bin", ".binpb", ".png", ".jpg", ".gitignore"}  # its paths begin at the top of the project


def hosts(text: str) -> set[str]:
    """Public names of machines that readers are not sent to on purpose."""
    named = {*HOST.findall(text), *ADDRESS.findall(text)}
    return {name for name in named if not name.endswith(".example")} - PUBLIC - API_GROUPS


def directories(text: str, known: set[str]) -> set[str]:
    """Absolute paths that begin with no known name, and what lies deeper than one name below /tmp."""
    paths = [(path[0], path[1], path.end()) for path in PATH.finditer(text)]
    return {
        path for path, top, end in paths if top not in known or (top == "tmp" and text[end : end + 1] == "/")
    }


@pytest.fixture(scope="module")
def texts():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.splitlines() if not name.startswith("tests/fuzz/corpus")]
    files = [file for file in files if file.is_file() and not {file.suffix, file.name} & SKIPPED]
    return {file.relative_to(ROOT): file.read_text(errors="replace") for file in files}


def test_no_file_sends_readers_to_a_host_that_is_not_listed(texts):
    assert {name: found for name, text in texts.items() if (found := hosts(text))} == {}


def test_no_file_names_a_directory_of_one_machine(texts):
    strange = {}
    for name, text in texts.items():
        known = SYSTEM | ROUTES | POINTERS | (MADE_UP if name.parts[0] == "tests" else set())
        strange[name] = directories(text, known)
    assert {name: found for name, found in strange.items() if found} == {}


def test_lock_files_hold_no_address(texts):
    locks = {name: text for name, text in texts.items() if name.suffix == ".lock"}
    assert locks
    for name, text in locks.items():
        assert not re.search(r"://|^\s*-(?!-hash=)|\s@\s", text, re.MULTILINE), name


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from packages.somewhere." + "org", "packages.somewhere." + "org"),
        ("--index-url http://" + "mirror.corp.net:8080/simple", "mirror.corp.net"),
        ("GET http://127.0.0.1:8000/v2 or https://github.com/x", None),
    ],
)
def test_a_host_that_is_not_listed_is_found(text, found):
    assert hosts(text) == ({found} if found else set())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cp /" + "builds/project/x .", "/" + "builds/project"),
        ("PLACE=/t" + "mp/scratch/out.json", "/t" + "mp/scratch"),
        ("see /" + "home/me.", "/" + "home/me."),
        ("GET /v2/models/m; /usr/lib/x; ~/x/y; /tmp/profile", None),
    ],
)
def test_a_directory_of_one_machine_is_found(text, found):
    assert directories(text, SYSTEM | ROUTES) == ({found} if found else set())
