"""Keeps what was observed of a cascade's runs in its directory, and shows it in its report."""

from __future__ import annotations

import fcntl
import re
from contextlib import suppress
from pathlib import Path

import orjson

from cpuserve.errors import UsageError
from cpuserve.video.cascade_file import CascadePromise
from cpuserve.video.observed_run import ObservedRun
from cpuserve.video.run_page import observed_section

__all__ = ["OBSERVED_FILE", "REPORT_FILE", "keep_observed", "read_observed"]

OBSERVED_FILE, REPORT_FILE = "observed.json", "report.html"
"""Names of the files in the directory of a cascade."""

_MOST_RUNS = 20
_BEGIN, _END = "<!-- observed -->", "<!-- /observed -->"
_PLACE = re.compile(f"{_BEGIN}.*?{_END}", re.DOTALL)


def keep_observed(directory: Path, promise: CascadePromise, run: ObservedRun) -> None:
    """Add a run to those that are kept, and show them in the report of the training, where there is one.

    A run that wrote the same labels before is replaced. The latest 20 are kept.

    Args:
        directory: of the cascade.
        promise: of the cascade.
        run: what was observed.

    Raises:
        UsageError: the directory cannot be written, or what is kept there cannot be read.
    """
    try:
        with (directory / f".{OBSERVED_FILE}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another run of this cascade may end at the same time
            others = [one for one in read_observed(directory) if one.labels != run.labels]
            runs = [run, *others][:_MOST_RUNS]
            document = orjson.dumps([one.as_json() for one in runs], option=orjson.OPT_INDENT_2)
            _write(directory / OBSERVED_FILE, document)
            with suppress(FileNotFoundError):
                _show(directory / REPORT_FILE, str(observed_section(promise, runs)))
    except OSError as error:
        raise UsageError(
            f"what was observed cannot be kept in {directory}: {error.strerror}; it is in the summary"
        ) from error


def read_observed(directory: Path) -> list[ObservedRun]:
    """The runs that are kept, the latest first.

    Raises:
        UsageError: the file is not what `keep_observed` wrote.
        OSError: it cannot be read.
    """
    path = directory / OBSERVED_FILE
    try:
        return [ObservedRun.from_json(one) for one in orjson.loads(path.read_bytes())]
    except FileNotFoundError:
        return []
    except (KeyError, TypeError, AttributeError, orjson.JSONDecodeError) as error:
        raise UsageError(f"{path} is not what `cpuserve video run` wrote: remove it") from error


def _show(report: Path, section: str) -> None:
    """Put a section into its place in the report."""
    text, there = report.read_text(encoding="utf-8"), f"{_BEGIN}{section}{_END}"
    if _PLACE.search(text):
        text = _PLACE.sub(lambda _: there, text, count=1)
    else:  # written before reports had that place
        text = text.replace("</main>", f"{there}</main>", 1)
    _write(report, text.encode())


def _write(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)
