"""Commands of a user with an unknown number and without a home, as a container may be started."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cpuserve import cli
from tests.conftest import ROOT

UID = "54321"


@pytest.fixture(scope="module")
def as_unknown() -> list[str]:
    """The words that run a command as that user, in a user namespace, so that they may read this checkout."""
    unshare = shutil.which("unshare")
    words = [unshare or "", "--user", f"--map-user={UID}", f"--map-group={UID}"]
    if unshare is None or subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here")
    return words


def run(as_unknown: list[str], temporary: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(temporary)}
    command = [*as_unknown, sys.executable, "-m", "cpuserve", *words]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_user_is_unknown(as_unknown: list[str], tmp_path: Path) -> None:
    code = "import pathlib, os; print(os.getuid()); pathlib.Path.home()"
    done = subprocess.run(
        [*as_unknown, sys.executable, "-c", code], env={}, capture_output=True, text=True, check=False
    )
    assert done.stdout == f"{UID}\n"
    assert "Could not determine home" in done.stderr


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_has_help(as_unknown: list[str], tmp_path: Path, name: str) -> None:
    done = run(as_unknown, tmp_path, name, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


def test_models_are_pulled_converted_and_asked(as_unknown: list[str], tmp_path: Path) -> None:
    models = str(tmp_path / "models")
    model = str(ROOT / "ir_models" / "digits" / "1" / "model.xml")
    place = ("--model-repository", models)
    for words in (
        ("pull", "digits", *place),
        ("models", *place),
        ("convert", model, "--name", "again", "--no-parity", *place),
        ("cut", "digits", "--name", "parts", "--output", "254", *place),
        ("predict", "parts", "docs/seven.png", *place),
        ("cutpoints", "digits", *place),
        ("doctor",),
    ):
        done = run(as_unknown, tmp_path, *words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr


def test_a_model_is_quantised(as_unknown: list[str], tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(ROOT / "docs" / "seven.png", photos)
    place = ("--model-repository", str(tmp_path / "models"))
    assert run(as_unknown, tmp_path, "pull", "digits", *place).returncode == 0
    words = ("quantize", "digits", "--calibration", str(photos), "--name", "small", "--allow-unvalidated")
    done = run(as_unknown, tmp_path, *words, *place)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "small/1 published" in done.stdout


def test_the_cache_of_others_is_not_used(as_unknown: list[str], tmp_path: Path) -> None:
    cache = tmp_path / f"cpuserve-{UID}"
    cache.mkdir()
    cache.chmod(0o777)
    done = run(as_unknown, tmp_path, "pull", "digits", "--model-repository", str(tmp_path / "models"))
    assert done.returncode != 0
    assert "open to other users; set XDG_CACHE_HOME" in done.stderr
    assert "Traceback" not in done.stderr
