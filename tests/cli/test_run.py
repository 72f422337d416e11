"""`cpuserve run`: where the program really is, what it is told, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

HERE = sorted(os.sched_getaffinity(0))
TWO_CPUS = pytest.mark.skipif(len(HERE) < 2, reason="two seats need two CPUs")
TELL = (
    "import json, os; print(json.dumps([sorted(os.sched_getaffinity(0)), {name: value for name, value in "
    "os.environ.items() if name.endswith('_THREADS') or name in ('CPUSERVE_SEAT', 'LD_PRELOAD')}]))"
)


def run(*words, affinity=None, **environment):
    """Start `cpuserve run` with words, in a mask."""
    env = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    return subprocess.run(
        [sys.executable, "-m", "cpuserve", "run", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**env, **environment},
        preexec_fn=(lambda: os.sched_setaffinity(0, affinity)) if affinity else None,
    )


@TWO_CPUS
def test_one_seat_is_the_program_itself_in_a_mask_that_starts_anywhere():
    done = run("--seat", "0", "--", sys.executable, "-c", TELL, affinity={HERE[-1]})
    cpus, variables = json.loads(done.stdout)
    assert cpus == [HERE[-1]]
    assert variables == {
        "CPUSERVE_SEAT": "0",
        **dict.fromkeys(
            ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"
        ),
    }
    (said,) = done.stderr.splitlines()
    assert said.startswith(f"cpuserve run: seat 0 of 1: CPUs {HERE[-1]}, ")
    assert "OMP_NUM_THREADS=1" in said


@TWO_CPUS
def test_a_copy_in_every_seat_with_its_number_before_its_lines():
    done = run("--seats", "2", "--quiet", "--", sys.executable, "-c", TELL, OMP_NUM_THREADS="7")
    assert done.returncode == 0
    assert done.stderr == ""
    lines = sorted(done.stdout.splitlines())
    told = [json.loads(line.removeprefix(f"[{seat}] ")) for seat, line in enumerate(lines)]
    assert [cpus for cpus, _ in told] == [[HERE[0]], [HERE[1]]]
    assert [variables["CPUSERVE_SEAT"] for _, variables in told] == ["0", "1"]
    assert {variables["OMP_NUM_THREADS"] for _, variables in told} == {"7"}


@TWO_CPUS
def test_the_exit_code_is_that_of_the_first_that_failed(tmp_path):
    file = tmp_path / "pid"  # seat 0 ends only when seat 1 is gone
    wait = f"until [ -s {file} ]; do sleep 0.05; done; while kill -0 $(cat {file}); do sleep 0.05; done 2>&-"
    fail = f"echo $$ > {file}; printf half; echo wrong >&2; exit 3"
    done = run(
        "--seats", "2", "--quiet", "sh", "-c", f"case $CPUSERVE_SEAT in 0) {wait}; exit 4;; 1) {fail};; esac"
    )
    assert done.returncode == 3
    assert (done.stdout, done.stderr) == ("[1] half\n", "[1] wrong\n")
    assert run("--seats", "2", "--quiet", "sh", "-c", "kill -9 $$").returncode == 128 + signal.SIGKILL


@TWO_CPUS
def test_signals_are_passed_on():
    script = "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done"
    with subprocess.Popen(
        [sys.executable, "-m", "cpuserve", "run", "--seats", "2", "--quiet", "sh", "-c", script],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert sorted(process.stdout.readline() for _ in range(2)) == ["[0] up\n", "[1] up\n"]
        process.send_signal(signal.SIGTERM)
        assert sorted(process.stdout.read().splitlines()) == ["[0] bye", "[1] bye"]
    assert process.returncode == 5


HASTY = """
import os, signal, subprocess, sys
from cpuserve.cli.copies import Copies, Copy
start = subprocess.Popen
def struck(*words, **terms):
    os.kill(os.getpid(), signal.SIGINT)
    return start(*words, **terms)
subprocess.Popen = struck
words = [sys.executable, "-c", "import time; time.sleep(60)"]
sys.exit(Copies(words, [Copy("0", dict(os.environ), lambda: None)]).run())
"""


def test_a_signal_that_comes_while_copies_start_reaches_them_too():
    done = subprocess.run(
        [sys.executable, "-c", HASTY], capture_output=True, text=True, check=False, timeout=50
    )
    assert (done.returncode, "KeyboardInterrupt" in done.stdout) == (130, False)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--seat", "0", "--", "/nonexistent/program"], 127, "No such file"),
        (["--", "/nonexistent/program"], 127, "No such file"),
        (["--seat", "0", "--", "/etc/passwd"], 126, "Permission denied"),
        (["--seat", "9999", "--", "true"], 2, "--seat 9999"),
        (["--seats", "none", "--", "true"], 2, "--seats"),
        (["--seats", "9999", "--", "true"], 1, "--seats 9999"),
        (["--node-id", "999", "--", "true"], 1, "--node-id 999"),
        (["--openmp", "libgomp", "--", "true"], 2, "libgomp"),
        ([], 2, "CMD"),
    ],
)
def test_refusals(words, code, said):
    done = run(*words)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_program_that_ends_by_a_broken_pipe_does_so_quietly():
    done = run("--seat", "0", "--quiet", "sh", "-c", "yes | head -1; exit 0")
    assert (done.returncode, done.stdout, done.stderr) == (0, "y\n", "")


def test_an_allocator_is_loaded_ahead_of_the_program(tmp_path):
    """No allocator need be installed: any library under its name is loaded, and the program's maps say so."""
    library = tmp_path / "lib" / "libjemalloc.so.2"
    library.parent.mkdir()
    source = tmp_path / "empty.c"
    source.write_text("int cpuserve_nothing;\n")
    built = subprocess.run(["cc", "-shared", "-o", library, source], capture_output=True, check=False)
    if built.returncode:
        pytest.skip("no C compiler")
    done = run("--seat", "0", "--allocator", "auto", "cat", "/proc/self/maps", CONDA_PREFIX=str(tmp_path))
    assert str(library) in done.stdout
    assert f"LD_PRELOAD={library}" in done.stderr
