"""Answers that go to standard output: what is said where it cannot be written."""

from __future__ import annotations

import os
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from cpuserve.errors import CpuserveError
from cpuserve.video.outputs.frame_outputs import FrameStream

LINE = {"video": "a", "frame": 0, "pts": 0, "time_s": 0.0, "model": "m", "version": "1", "predictions": []}


@contextmanager
def stream(file, as_format):
    """A stream to a file that cannot be written, which is closed behind it."""
    try:
        yield FrameStream(file, as_format)
    finally:
        with suppress(OSError):  # it cannot be written then, either
            file.close()


def write(made):
    with closing(made):
        made.append(LINE, None)


@pytest.mark.parametrize("buffering", [0, 4096])
@pytest.mark.parametrize("as_format", ["jsonl", "csv"])
def test_a_full_disk_is_told_by_name(as_format, buffering):
    with (
        pytest.raises(CpuserveError, match=r"standard output cannot be written: No space left on device"),
        stream(Path("/dev/full").open("wb", buffering), as_format) as made,
    ):
        write(made)


@pytest.mark.parametrize("as_format", ["jsonl", "csv"])
def test_a_reader_that_has_what_it_wanted_is_no_error_of_the_output(as_format):
    reads, writes = os.pipe()
    os.close(reads)
    with stream(os.fdopen(writes, "wb"), as_format) as made, pytest.raises(BrokenPipeError):
        write(made)
