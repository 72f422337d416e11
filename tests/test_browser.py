"""Tests of pages are not skipped in silence: in CI a missing browser has a reason, or they fail."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.browser import browser_or_skip
from tests.conftest import ROOT


@pytest.fixture
def without_browser(monkeypatch, tmp_path):
    for name in ("CI", "CPUSERVE_TEST_BROWSER", "CPUSERVE_TEST_NO_BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))


def test_without_a_browser_a_test_is_skipped(without_browser):
    with pytest.raises(pytest.skip.Exception, match="apt-get install chromium-headless-shell"):
        browser_or_skip()


def test_in_ci_it_fails_unless_a_reason_is_given(without_browser, monkeypatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no Chromium on the PATH"):
        browser_or_skip()
    monkeypatch.setenv("CPUSERVE_TEST_NO_BROWSER", "only root can install it")
    with pytest.raises(pytest.skip.Exception, match="no Chromium can be had: only root can install it"):
        browser_or_skip()


@pytest.mark.parametrize(
    ("programs", "reason"),
    [
        ({}, "there is no apt-get"),
        ({"apt-get": "exit 0", "id": "echo 1000"}, "only root can install it"),
        ({"apt-get": "echo E: no such package >&2; exit 100", "id": "echo 0"}, "could not install"),
        ({"apt-get": "exit 0", "id": "echo 0"}, ""),
        ({"chromium-headless-shell": "exit 0"}, ""),
    ],
)
def test_ci_says_why_there_is_no_browser(tmp_path, programs, reason):
    """The script as it is, with programs in the place of those of the system."""
    made = {"make": 'echo "make $* [$CPUSERVE_TEST_NO_BROWSER]"', **programs}
    for name, script in made.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    for name in ("dirname", "mktemp", "rm", "tail", "sh"):
        (tmp_path / name).symlink_to(next(p for d in ("/usr/bin", "/bin") if (p := Path(d, name)).exists()))
    environment = {"PATH": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [tmp_path / "sh", ROOT / ".ci" / "run"], env=environment, capture_output=True, text=True, check=True
    )
    assert "make .venv/.test [" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.startswith("make test [")
    assert (reason in last) if reason else last == "make test []"
    if "could not install" in reason:
        assert "E: no such package" in last


def test_ci_ends_where_the_environment_cannot_be_made(tmp_path):
    """It is made beside apt-get, and no test starts before it is there."""
    (tmp_path / "make").write_text('#!/bin/sh\necho "make $*"\n[ "$1" = test ] || exit 2\n')
    (tmp_path / "chromium-headless-shell").write_text("#!/bin/sh\n")
    (tmp_path / "haproxy").write_text("#!/bin/sh\n")
    for program in tmp_path.iterdir():
        program.chmod(0o755)
    command, environment = ROOT / ".ci" / "run", {"PATH": f"{tmp_path}:/usr/bin:/bin", "VENV": "other"}
    done = subprocess.run([command], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("make other/.test\n", 2)
