"""The docs say what the code does: generated pages are fresh, modules are small."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "cpuserve"


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    subprocess.run(
        [sys.executable, "docs/generate.py", str(folder)], cwd=ROOT, check=True, capture_output=True
    )
    return folder


@pytest.mark.parametrize("name", ["settings.md", "commands.md", "seven.png"])
def test_generated_files_are_fresh(generated, name):
    assert (ROOT / "docs" / name).read_bytes() == (generated / name).read_bytes(), "run `make docs`"


def test_modules_are_small_rooms_with_a_sentence_at_the_door():
    for file in PACKAGE.rglob("*.py"):
        text = file.read_text()
        assert len(text.splitlines()) <= 400, file
        assert ast.get_docstring(ast.parse(text)), file


@pytest.mark.parametrize(
    "code",
    [
        "import cpuserve.cli",
        "import cpuserve.server.gunicorn_server",
        "from cpuserve.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from cpuserve.cli import main\ntry: main(['serve', '--help'])\nexcept SystemExit: pass",
        "from cpuserve.cli import main\ntry: main(['pull', '--help'])\nexcept SystemExit: pass",
    ],
)
def test_neither_help_nor_the_arbiter_loads_what_only_workers_need(code):
    heavy = "{'openvino', 'numpy', 'cv2', 'flask'}"
    check = f"{code}\nimport sys; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    subprocess.run([sys.executable, "-c", check], check=True, stdout=subprocess.DEVNULL)


def test_every_command_has_an_example_in_its_help():
    page = (ROOT / "docs" / "commands.md").read_text()
    for part in page.split("\n## ")[1:]:
        assert "Example:" in part, part.splitlines()[0]
