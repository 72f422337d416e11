"""NNCF without its usage reports, or the extra that brings it; it compresses nothing itself."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from cpuserve.errors import UsageError

__all__ = ["load_nncf"]

_REPORTER = "openvino_telemetry"


def load_nncf() -> ModuleType:
    """NNCF, imported so that it reports its use to nobody and logs errors only.

    NNCF sends what it is asked to do to Google Analytics unless the user has opted out in a file of their
    home directory, and it writes an identifier there. Its own opt-out sends one more report. Where the
    package that reports is missing NNCF works all the same, so it is hidden while NNCF is imported.

    Raises:
        UsageError: NNCF is not installed.
    """
    try:
        with _hidden(_REPORTER):
            import nncf  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise UsageError(f"this needs NNCF: pip install cpuserve[quantize] ({error})") from error
    nncf.set_log_level(logging.ERROR)
    return nncf  # type: ignore[no-any-return]


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Make ``import package`` fail for a while."""
    before = sys.modules.get(package)
    sys.modules[package] = None  # type: ignore[assignment]  # how `import` is told that there is none
    try:
        yield
    finally:
        if before is None:
            del sys.modules[package]
        else:
            sys.modules[package] = before
