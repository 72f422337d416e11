"""What the tests take a CPU for, with and without oneDNN's limit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import COMPARE_NO_NUMBERS, ROOT
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
        "tests/authoring/test_convert.py",
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
    assert "test_an_original_that_answers_otherwise_is_seen" in done.stdout
    assert "test_a_source_that_is_named_is_kept" not in done.stdout  # left out by its name


def test_what_is_left_out_of_the_second_run_is_there():
    """A file or test that has another name now would come back unseen."""
    for folder, names in COMPARE_NO_NUMBERS.items():
        for name in names:
            file, _, test = name.partition("::")
            assert f"def {test}" in (ROOT / "tests" / folder / file).read_text(), name


def test_make_test_runs_the_script_also_when_one_part_is_asked_for():
    command = ["make", "--dry-run", "test", "ARGS=-k decode"]
    dry = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "tests/run.sh .venv/bin/python -k decode\n" in dry


@pytest.mark.parametrize(("first", "second", "code"), [(0, 0, 0), (0, 5, 0), (1, 0, 1), (0, 1, 1), (5, 5, 5)])
def test_both_runs_are_shown_and_count(tmp_path, first, second, code):
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/sh\necho "run $ONEDNN_MAX_CPU_ISA: $*"\n'
        f'[ "$ONEDNN_MAX_CPU_ISA" = AVX2 ] && exit {second}\nexit {first}\n'
    )
    python.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    command = [str(ROOT / "tests" / "run.sh"), str(python), "-k", "a or b"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "run : -m pytest -k a or b\n" in done.stdout
    if more_than_avx2():
        assert f"run AVX2: -m pytest -m {SECOND} -k a or b\n" in done.stdout
        assert done.returncode == code
    else:
        assert "AVX2: -m" not in done.stdout
        assert done.returncode == first


def more_than_avx2():
    flags = Path("/proc/cpuinfo").read_text()
    return "avx512f" in flags or "avx_vnni" in flags


@pytest.mark.parametrize("failing", ["tests/e2e", "tests/benchmarks", "--ignore", "-m numeric", None])
def test_without_arguments_three_queues_take_all_tests_and_each_failure_counts(tmp_path, failing):
    """Together they leave out no folder; the one that ends last does not hide what another found."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "run: $*"\ncase "$*" in "-m pytest {failing}"*) exit 1;; esac\n')
    python.chmod(0o755)
    command = [str(ROOT / "tests" / "run.sh"), str(python)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    fails = failing is not None and (failing != "-m numeric" or more_than_avx2())
    assert done.returncode == int(fails), done.stdout
    assert done.stdout.count("run: -m pytest ") == 3 + more_than_avx2()
    assert done.stdout.startswith("run: -m compileall -q -j 0 ")
    folders = ("tests/e2e", "tests/benchmarks", "tests/video")
    assert f"run: -m pytest {' '.join(f'--ignore {one}' for one in folders)}\n" in done.stdout
    assert "run: -m pytest tests/e2e\n" in done.stdout
    assert "run: -m pytest tests/benchmarks tests/video\n" in done.stdout
    if more_than_avx2():
        (again,) = (line for line in done.stdout.splitlines() if "-m numeric" in line)
        read = again.partition(f"-m pytest -m {SECOND} ")[2].split()
        assert read[:2] == ["tests/authoring", "tests/serving"]
        assert {"tests/e2e/test_answers.py", "tests/cli/test_cut.py"} < set(read)
        assert all((ROOT / one).exists() for one in read)
