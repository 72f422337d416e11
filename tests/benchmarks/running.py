"""A benchmark command as a user runs it, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import ROOT


def run(module: str, out: Path, *words: str) -> dict[str, Any]:
    """Run ``python -m benchmarks.MODULE WORDS --out OUT`` and give what it wrote."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *words, "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(out.read_text())
    assert found["command"].startswith(f"python -m benchmarks.{module} ")
    return found
