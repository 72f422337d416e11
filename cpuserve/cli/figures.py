"""Options for the results of measuring commands, and how results are written and printed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import orjson

from cpuserve.cli.local_path import LocalPath
from cpuserve.cli.options import json_option
from cpuserve.errors import CpuserveError, UsageError

__all__ = ["OUTPUT_FILE", "OUTPUT_FOLDER", "check_folder", "deliver", "figures_options"]


class _OutputFile(LocalPath):
    """A file to write. It is refused before the measurement if it cannot be written."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path of the file; `click.BadParameter` where it cannot be written."""
        file = Path(os.fsdecode(super().convert(value, param, ctx)))
        folder = file.absolute().parent
        try:
            there, known = file.exists(), folder.is_dir()
        except OSError as error:
            self.fail(f"{file} cannot be reached: {error.strerror}", param, ctx)
        if not known:
            self.fail(f"{file}: there is no directory {file.parent}", param, ctx)
        if not os.access(file if there else folder, os.W_OK):
            self.fail(f"{file} cannot be written by this user", param, ctx)
        return file


class _OutputFolder(LocalPath):
    """A directory to write to, which need not be there yet. It is refused as `_OutputFile` is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path of the directory; `click.BadParameter` where nothing can be written into it."""
        folder = Path(os.fsdecode(super().convert(value, param, ctx)))
        if reason := _why_not(folder):
            self.fail(reason, param, ctx)
        return folder


OUTPUT_FILE = _OutputFile(dir_okay=False, path_type=Path)
"""Type of an option that names a file to write."""

OUTPUT_FOLDER = _OutputFolder(file_okay=False, path_type=Path)
"""Type of an option that names a directory to write."""


def check_folder(folder: Path, flag: str) -> None:
    """Whether files can be written into a directory, which need not be there yet.

    Raises:
        UsageError: they cannot.
    """
    if reason := _why_not(folder):
        raise UsageError(f"{flag}: {reason}")


def _why_not(folder: Path) -> str:
    nearest = folder.absolute()
    try:
        while not nearest.exists():
            nearest = nearest.parent
        if not nearest.is_dir():
            return f"{folder}: {nearest} is no directory"
    except OSError as error:
        return f"{folder} cannot be reached: {error.strerror}"
    return "" if os.access(nearest, os.W_OK | os.X_OK) else f"{folder} cannot be written by this user"


def figures_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--out``, ``--json`` (``as_json``) and ``--quiet``."""
    for option in (
        click.option("--quiet", is_flag=True, help="Print nothing; see the exit code."),
        json_option("Print the figures as JSON."),
        click.option("--out", type=OUTPUT_FILE, help="Write all figures to this file, as JSON."),
    ):
        command = option(command)
    return command


def deliver(figures: dict[str, Any], out: Path | None, *, as_json: bool) -> None:
    """Print figures as JSON with ``--json`` and write them to the file of ``--out``.

    Raises:
        CpuserveError: the file cannot be written any more.
    """
    from cpuserve.measuring.results import write_result  # noqa: PLC0415  # not for --help

    if as_json:
        click.echo(orjson.dumps(figures))
    if out is not None:
        try:
            write_result(out, ["cpuserve", *sys.argv[1:]], figures)
        except OSError as error:
            raise CpuserveError(f"--out {out} cannot be written: {error.strerror}") from error
