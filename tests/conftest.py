"""Fixtures shared by all tests: where the real models and photos are."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The test data; skips with a reason where there is none, fails in CI."""
    folder = Path(os.environ.get("CPUSERVE_TEST_DATA", ROOT.parent / "shared" / "data")).resolve()
    if not (folder / "expected.json").is_file():
        reason = f"no test data in {folder}: set CPUSERVE_TEST_DATA"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def expected(data_dir: Path) -> dict[str, Any]:
    """The right answers that belong to the test data."""
    answers: dict[str, Any] = json.loads((data_dir / "expected.json").read_text())
    return answers
