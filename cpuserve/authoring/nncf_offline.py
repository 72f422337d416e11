"""NNCF without its usage reports, or the extra that brings it; it compresses nothing itself."""

from __future__ import annotations

import logging
import sys
from types import ModuleType

from cpuserve.errors import UsageError

__all__ = ["load_nncf"]

_REPORTER = "openvino_telemetry"


def load_nncf() -> ModuleType:
    """NNCF, imported so that it reports its use to nobody and logs errors only.

    `cpuserve` hides the package that reports, see there; this is for programs that imported it before.

    Raises:
        UsageError: NNCF is not installed.
    """
    before = sys.modules.get(_REPORTER)
    sys.modules[_REPORTER] = None  # type: ignore[assignment]
    try:
        import nncf  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise UsageError(f"this needs NNCF: pip install cpuserve[quantize] ({error})") from error
    finally:
        sys.modules[_REPORTER] = before  # type: ignore[assignment]
    nncf.set_log_level(logging.ERROR)
    return nncf  # type: ignore[no-any-return]
