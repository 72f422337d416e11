"""Counts the instructions and calls of one request, which hardly depend on how busy a machine is.

Run as ``python -m benchmarks.instructions --out docs/results/instructions.json``. Instructions are
counted by Valgrind's callgrind (Weidendorfer et al., 2004), calls of Python and C functions by
`sys.setprofile`. Both count the way of `benchmarks.fixtures.hot_path` with more and with fewer requests: the
difference is free of what is done once.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cpuserve.errors import CpuserveError
from cpuserve.measuring.results import write_result
from cpuserve.measuring.stable_windows import spread

__all__ = ["count_calls", "count_instructions", "main", "surroundings"]

_FEW, _MANY, _WARM = 20, 60, 30
_ROUNDS = 3
_READY_S = 300.0
_KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
_TICK_S = 5e-5
_LIBRARIES = ("flask", "numpy", "orjson", "simplejpeg", "opencv-python-headless", "gunicorn")


def count_calls() -> float:
    """Calls of Python and of C functions that one request makes.

    On every run of one Python it is the same, but for what is done once a second.
    """
    from benchmarks.fixtures.hot_path import hot_path  # noqa: PLC0415  # OpenVINO comes with it

    count = 0

    def called(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    def counted(serve: Callable[[], bytes], requests: int) -> int:
        before = count
        sys.setprofile(called)
        try:
            for _ in range(requests):
                serve()
        finally:
            sys.setprofile(None)
        return count - before

    with hot_path() as serve, _collector_paused():
        for _ in range(_WARM):
            serve()
        # the median leaves out a round in which something fell due that is done once a second
        rounds = [counted(serve, _MANY) - counted(serve, _FEW) for _ in range(_ROUNDS)]
    return statistics.median(rounds) / (_MANY - _FEW)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Collect no garbage meanwhile: what others have left would be finalized in the middle of a count."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def count_instructions(rounds: int) -> list[float]:
    """Instructions of one request in user space, once a round, all in one process under callgrind.

    Raises:
        CpuserveError: Valgrind is not installed, or it failed.
    """
    if shutil.which("valgrind") is None or shutil.which("callgrind_control") is None:
        raise CpuserveError("callgrind is not installed (Debian: apt install valgrind)")
    # the same addresses, the same order of sets and the same environment on every run
    still = ["setarch", "-R"] if shutil.which("setarch") else []
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | {"PYTHONHASHSEED": "0"}
    serve = [sys.executable, "-m", "benchmarks.instructions", "--serve"]
    # without its bytecode in the cache the first process compiles, and its memory lies differently
    subprocess.run(serve, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    with tempfile.TemporaryDirectory(prefix="cpuserve-callgrind-") as folder:
        out = Path(folder) / "out"
        valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
        with (Path(folder) / "log").open("w+") as log:
            process = subprocess.Popen(
                [*still, *valgrind, *serve],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            try:
                return _under_callgrind(process, out, rounds)
            except (OSError, CpuserveError) as error:
                log.seek(0)
                words = log.read().strip().splitlines()[-1:]
                raise CpuserveError(f"callgrind failed: {error} {' '.join(words)}") from error
            finally:
                process.kill()
                process.wait()
                for pipe in (process.stdin, process.stdout):
                    if pipe is not None:
                        pipe.close()


def _under_callgrind(process: subprocess.Popen[str], out: Path, rounds: int) -> list[float]:
    dumps = 0

    def told(requests: int) -> int:
        """Let it serve so many and give the instructions since the last dump."""
        nonlocal dumps
        if process.stdin is None or process.stdout is None:
            raise CpuserveError("a process without its pipes")
        if requests:
            process.stdin.write(f"{requests}\n")
            process.stdin.flush()
        if not process.stdout.readline():
            raise CpuserveError("the process ended")
        if not requests:
            _control("-i", "on", process.pid)
            return 0
        _control("-d", "", process.pid)
        dumps += 1
        return _total(Path(f"{out}.{dumps}"))

    told(0)
    told(_WARM)
    found = []
    for _ in range(rounds):
        few, many = told(_FEW), told(_MANY)
        found.append((many - few) / (_MANY - _FEW))
    return found


def _control(flag: str, value: str, pid: int) -> None:
    command = ["callgrind_control", flag, *([value] if value else []), str(pid)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_READY_S)
    if done.returncode or "Error" in done.stdout + done.stderr:
        raise CpuserveError(f"{' '.join(command)}: {(done.stdout + done.stderr).strip()}")


def _total(file: Path) -> int:
    """Instructions of a dump, of all its parts."""
    found = re.findall(r"^totals: (\d+)", file.read_text(), re.MULTILINE)
    if not found:
        raise CpuserveError(f"{file.name} has no totals")
    return sum(int(number) for number in found)


def surroundings() -> dict[str, str]:
    """What the instructions depend on beside the code: a baseline holds only where all of it is the same."""
    return {
        "python": f"{platform.python_version()} {platform.python_compiler()}",
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        **{name: version(name) for name in _LIBRARIES},
    }


def _tick_by_call() -> None:
    """Clocks that go on by the same step at every call: what a time costs to sort and print depends on it."""
    time.perf_counter_ns = itertools.count(10**12, round(1e9 * _TICK_S)).__next__
    time.time_ns = itertools.count(10**18, round(1e9 * _TICK_S)).__next__
    time.monotonic = itertools.count(1e3, _TICK_S).__next__
    time.time = itertools.count(1e9, _TICK_S).__next__


def _serve() -> None:
    """Under callgrind: serve as many requests as each line of stdin says."""
    from benchmarks.fixtures.hot_path import hot_path  # noqa: PLC0415

    with hot_path() as serve:
        serve()
        _tick_by_call()
        gc.collect()
        gc.disable()  # a collection falls into one window or the other
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        for line in sys.stdin:
            for _ in range(int(line)):
                serve()
            sys.stdout.write("done\n")
            sys.stdout.flush()


def main() -> None:
    """Count and print, or write the baseline that the tests compare with."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1, help="started anew; their medians spread")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        _serve()
        return
    found: dict[str, Any] = {"calls_per_request": count_calls(), "surroundings": surroundings()}
    try:
        by_process = [count_instructions(given.rounds) for _ in range(given.processes)]
    except CpuserveError as error:
        found["instructions_per_request"] = None
        found["reason"] = str(error)
    else:
        medians = [statistics.median(one) for one in by_process]
        found["instructions_per_request"] = statistics.median(medians)
        found["spread"] = spread(medians)
        found["rounds"] = by_process
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    if given.out:
        write_result(given.out, ["python", "-m", "benchmarks.instructions", *sys.argv[1:]], found)


if __name__ == "__main__":
    main()
