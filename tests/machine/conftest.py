"""Fixtures of the machine tests: the trees, and the one captured from a running machine."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def captured(data_dir: Path) -> Path:
    """4 CPU nodes with SMT 2, the last memoryless, and a fifth with memory only, as a kernel wrote them."""
    folder = data_dir.parent / "labs" / "sysfs" / "4n16c-smt2-memonly-memless"
    if not folder.is_dir():
        pytest.skip(f"no captured machine in {folder}")
    return folder
