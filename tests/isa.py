"""The arithmetic that models have in these tests: the CPU's, or less where oneDNN is limited.

``ONEDNN_MAX_CPU_ISA`` holds for oneDNN only. OpenVINO still chooses bf16 by what the CPU can do, and then
finds no kernel for it. Under a limit without bf16 the tests therefore ask for f32, which a CPU without bf16
computes in anyway.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

__all__ = ["NEEDS_BF16", "VARIABLE", "has_vnni", "lacks_bf16_kernels"]

VARIABLE = "ONEDNN_MAX_CPU_ISA"
_WITHOUT_VNNI = ("SSE41", "AVX", "AVX2", "AVX512_CORE")
_WITHOUT_BF16 = (*_WITHOUT_VNNI, "AVX2_VNNI", "AVX512_CORE_VNNI")


def _flags(cpuinfo: str) -> set[str]:
    lines = [line for line in cpuinfo.splitlines() if line.startswith("flags")]
    return set(lines[0].partition(":")[2].split()) if lines else set()


def _limit(environ: Mapping[str, str]) -> str:
    return environ.get(VARIABLE, "DEFAULT").upper()


def has_vnni(cpuinfo: str | None = None, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether int8 products are added in 32 bits.

    Args:
        cpuinfo: the text of /proc/cpuinfo; None reads it.
        environ: where the limit of oneDNN is set.
    """
    flags = _flags(Path("/proc/cpuinfo").read_text() if cpuinfo is None else cpuinfo)
    return bool(flags & {"avx512_vnni", "avx_vnni"}) and _limit(environ) not in _WITHOUT_VNNI


def lacks_bf16_kernels(cpuinfo: str | None = None, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether OpenVINO would choose bf16, for which the limit leaves oneDNN no kernel.

    Args:
        cpuinfo: the text of /proc/cpuinfo; None reads it.
        environ: where the limit of oneDNN is set.
    """
    flags = _flags(Path("/proc/cpuinfo").read_text() if cpuinfo is None else cpuinfo)
    return bool(flags & {"avx512_bf16", "amx_bf16"}) and _limit(environ) in _WITHOUT_BF16


NEEDS_BF16 = pytest.mark.skipif(
    lacks_bf16_kernels(),
    reason="asks for bf16, for which the limited oneDNN has no kernel",
)
"""For tests that compile a model in bf16 on purpose."""
