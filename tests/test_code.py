"""ruff and mypy strict have nothing to say."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_the_command_that_installs_an_extra_is_written_in_one_place():
    """`errors.pip_install` knows the environment at hand; a message of its own would name another."""
    by_hand = re.compile(r"pip install(?! words)")
    found = [
        str(file.relative_to(ROOT))
        for file in (ROOT / "cpuserve").rglob("*.py")
        if by_hand.search(file.read_text())
    ]
    assert found == ["cpuserve/errors.py"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("command", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]])
def test_ruff_and_mypy_find_nothing(command):
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_ctrl_c_is_for_the_command_and_for_no_process_that_it_starts():
    """A terminal sends it to the whole group: a process that still imports would print a traceback."""
    started = [
        (file.relative_to(ROOT).as_posix(), call.lineno, {one.arg for one in call.keywords})
        for file in (ROOT / "cpuserve").rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("subprocess.Popen", "subprocess.run")
    ]
    assert len(started) > 10
    apart = {"process_group", "start_new_session"}
    assert [(file, line) for file, line, words in started if not apart & words] == []
