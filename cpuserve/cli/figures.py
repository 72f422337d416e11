"""Options for the results of measuring commands, and how results are written and printed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import orjson

from cpuserve.cli.options import json_option

__all__ = ["OUTPUT_FILE", "deliver", "figures_options"]


class _OutputFile(click.Path):
    """A file to write. It is refused before the measurement if its directory does not exist."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path of the file; `click.BadParameter` where its directory is not there."""
        file = Path(os.fsdecode(super().convert(value, param, ctx)))
        if not file.absolute().parent.is_dir():
            self.fail(f"{file}: there is no directory {file.parent}", param, ctx)
        return file


OUTPUT_FILE = _OutputFile(dir_okay=False, path_type=Path)
"""Type of an option that names a file to write."""


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
    """Write figures to the file of ``--out`` and print them as JSON with ``--json``."""
    from cpuserve.measuring.results import write_result  # noqa: PLC0415  # not for --help

    if out is not None:
        write_result(out, ["cpuserve", *sys.argv[1:]], figures)
    if as_json:
        click.echo(orjson.dumps(figures))
