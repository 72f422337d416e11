"""What the servers of all benchmarks' tests have in common."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def models_are_loaded_once() -> Iterator[None]:
    """Let servers try no model in a child process first: it doubles the time of a start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CPUSERVE_CHECK_MODELS_IN_CHILD", "false")
        yield
