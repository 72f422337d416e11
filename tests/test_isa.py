"""What the tests take a CPU for, with and without oneDNN's limit."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.isa import VARIABLE, has_vnni, lacks_bf16_kernels

SECOND = "numeric and not frameworks"
EPYC = "processor : 0\nflags\t\t: fpu sse4_2 avx avx2 fma\n"
ICE_LAKE = "flags : avx2 avx512f avx512_vnni\n"
SAPPHIRE_RAPIDS = "flags : avx2 avx512f avx512_vnni avx_vnni avx512_bf16 amx_bf16\n"


@pytest.mark.parametrize(
    ("cpu", "limit", "vnni", "f32_only"),
    [
        (EPYC, None, False, False),
        (EPYC, "AVX2", False, False),
        (ICE_LAKE, None, True, False),
        (ICE_LAKE, "avx2", False, False),
        (SAPPHIRE_RAPIDS, None, True, False),
        (SAPPHIRE_RAPIDS, "AVX2", False, True),
        (SAPPHIRE_RAPIDS, "AVX512_CORE_VNNI", True, True),
        (SAPPHIRE_RAPIDS, "AVX512_CORE_AMX", True, False),
        ("", None, False, False),
    ],
)
def test_a_limit_takes_away_what_the_cpu_has(cpu, limit, vnni, f32_only):
    environ = {VARIABLE: limit} if limit else {}
    assert (has_vnni(cpu, environ), lacks_bf16_kernels(cpu, environ)) == (vnni, f32_only)


def test_the_second_run_of_make_test_takes_what_is_numeric():
    """By its folder, or by a marker; and nothing else."""
    numeric = {
        "tests/authoring/test_compiler_folding.py",
        "tests/serving/test_engine.py",
        "tests/e2e/test_answers.py",
    }
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", SECOND]
    done = subprocess.run(
        [*command, *numeric, "tests/serving/test_log.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    files = {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}
    assert files == numeric


def test_make_test_runs_them_twice_also_when_one_part_is_asked_for():
    command = ["make", "--dry-run", "test", "ARGS=-k decode"]
    dry = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "-m pytest -n 2 --dist loadfile -k decode\n" in dry
    assert (
        f'ONEDNN_MAX_CPU_ISA=AVX2 .venv/bin/python -m pytest -n 2 --dist loadfile -m "{SECOND}" -k decode'
        in dry
    )
