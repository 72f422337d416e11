"""A recording comes back from its file as it was, and a file that is none is refused by name."""

from __future__ import annotations

import json
import time

import pytest

from cpuserve.errors import UsageError
from cpuserve.profiling.recording import (
    BatchSpan,
    LayerTime,
    Recording,
    RequestSpan,
    Stacks,
    ThreadTrack,
)


def recording():
    return Recording(
        model="m",
        date="2026-01-01T00:00:00+00:00",
        machine="cpu",
        seconds=1.5,
        began_ns=10,
        ended_ns=20,
        requests=[RequestSpan("1", 2, 3, 11, 15, [("queue", 11, 12), ("infer", 12, 15)], 7, 1, 200)],
        batches=[BatchSpan(7, 2, 3, 12, 15, 1)],
        threads=[ThreadTrack(2, 3, "serve-0", "serve", [(10, 1, 0, 0), (20, 5, 1, 1)], 4, 5, 1)],
        layers=[LayerTime("conv", "Convolution", "jit", "i8", 3, 1.5, 1)],
        stacks=Stacks(100, 1.5, {"a;b": 3}, "py-spy attach", native=False),
        missing=["nothing"],
    )


def test_a_recording_comes_back_as_it_was(tmp_path):
    file = recording().save(tmp_path / "new")
    assert Recording.load_from(file) == Recording.load_from(tmp_path / "new") == recording()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 0}, "no profile of version 1"),
        ({"requests": [{"id": 1}]}, "no whole profile"),
        ({"colour": 1}, "no whole profile"),
    ],
)
def test_another_file_is_refused(tmp_path, change, words):
    file = recording().save(tmp_path)
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(UsageError, match=words):
        Recording.load_from(file)


def test_no_file_and_no_json_are_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        Recording.load_from(tmp_path / "none.json")
    (tmp_path / "profile.json").write_text("{")
    with pytest.raises(UsageError, match="is no profile"):
        Recording.load_from(tmp_path)


def test_the_clock_is_the_one_that_all_processes_share():
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    now = time.perf_counter_ns()
    assert before <= now <= time.clock_gettime_ns(time.CLOCK_MONOTONIC)
