"""Whatever a part of a report does, the process that wants it goes on and is told."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cpuserve.authoring.report_process import compute_in_child
from cpuserve.errors import ModelLoadError

HANG_S = 60.0  # only a hang reaches it


def facts(first: Any, second: Any) -> Iterator[tuple[str, Any]]:
    sys.stdout.write("libraries print where they like\n")
    yield "first", first
    yield "second", second


def raises(error: BaseException) -> Iterator[tuple[str, Any]]:
    yield "before", 1
    raise error


def killed_by(number: int) -> Iterator[tuple[str, Any]]:
    yield "before", 1
    sys.stderr.write("the last words\n")
    sys.stderr.flush()
    os.kill(os.getpid(), number)


def hangs(file: Path) -> Iterator[tuple[str, Any]]:
    file.write_text(str(os.getpid()))
    yield "before", 1
    time.sleep(3600)


def shows_what_is_killed_first() -> Iterator[tuple[str, Any]]:
    yield "score", int(Path("/proc/self/oom_score_adj").read_text())


def compute(*given: Any) -> tuple[dict[str, Any], str]:
    return compute_in_child(*given, limit_s=HANG_S, option="--report-timeout")


def test_the_facts_come_back_whatever_else_is_printed():
    assert compute(facts, [1, None], {"a": float("inf")}) == (
        {"first": [1, None], "second": {"a": float("inf")}},
        "",
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ModelLoadError("net.onnx has no answer"), "net.onnx has no answer"),
        (ValueError("\nzero-size array"), "zero-size array"),
        (MemoryError(), "MemoryError"),
        (RecursionError(), "RecursionError"),
        (RuntimeError("Exception from src/a.cpp:104:\nCheck 'x' failed at src/b.cpp:3:\nno"), "no"),
    ],
)
def test_an_error_keeps_the_facts_before_it_and_gives_the_reason(error, said):
    found, reason = compute(raises, error)
    assert (found, reason) == ({"before": 1}, said)


def test_a_framework_that_ends_the_process_is_told():
    assert compute(raises, SystemExit(3))[1] == "its process ended with 3"


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE])
def test_a_crash_of_native_code_is_told_with_its_last_words(number):
    found, reason = compute(killed_by, int(number))
    assert found == {"before": 1}
    assert reason == f"its process crashed ({number.name}): the last words"


def test_a_killed_child_speaks_for_want_of_memory():
    found, reason = compute(killed_by, int(signal.SIGKILL))
    assert (found, reason) == (
        {"before": 1},
        "its process was killed (SIGKILL), most likely for want of memory",
    )


def test_the_kernel_kills_the_child_before_the_command():
    assert compute(shows_what_is_killed_first)[0] == {"score": 1000}


def test_a_hang_is_ended_at_the_limit_and_what_was_found_is_kept(tmp_path):
    found, reason = compute_in_child(hangs, tmp_path / "pid", limit_s=4, option="--report-timeout")
    assert reason == "it was not done within 4 s (--report-timeout)"
    if (tmp_path / "pid").is_file():  # a busy machine may not have started it by then
        assert found in ({"before": 1}, {})
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)
