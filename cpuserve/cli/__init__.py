"""The `cpuserve` command: lists the subcommands, prints errors and sets exit codes."""

from __future__ import annotations

import sys
from typing import Any

import click

import cpuserve
from cpuserve.cli.group import LazyGroup
from cpuserve.errors import CpuserveError, UsageError
from cpuserve.machine.standard_streams import reserve

__all__ = ["COMMANDS", "cli", "main"]

COMMANDS = {
    "serve": "serve the models of the repository over HTTP",
    "pull": "download models of the catalogue into the repository",
    "models": "list the models of the repository",
    "convert": "convert a model of any framework and publish it",
    "quantize": "quantize a model to INT8 and check its accuracy",
    "doctor": "check the machine, and whether a running server uses it as planned",
    "run": "run any program on the CPUs of one seat",
    "predict": "run a model on pictures, without a server",
    "cutpoints": "list where a model can be cut",
    "cut": "cut a model into head, core and tail and serve them as one",
    "test-reload": "test that replacing a model under load loses no request",
    "profile": "show where a served model spends its time",
    "tune": "find the fastest settings for a model on this machine",
    "video": "run models on video files and streams",
    "bench": "measure servers, networks and frameworks",
}

EXIT_CODES = """\b
Exit codes: 0 done, 1 refused or failed (the message says why and what to change),
2 wrong options."""


@click.command(
    cls=LazyGroup,
    package=__name__,
    summaries=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)
@click.version_option(cpuserve.__version__, prog_name="cpuserve")
def cli() -> None:
    """Serve deep-learning vision models on the CPU servers you already own.

    \b
    Example:
      cpuserve serve
      curl --data-binary @photo.jpg http://127.0.0.1:8000/predictions/digits
    """


def main(arguments: list[str] | None = None) -> Any:
    """Run the command and end the process with its exit code."""
    reserve()
    try:
        cli.main(arguments, prog_name="cpuserve", standalone_mode=True)
    except CpuserveError as error:
        click.echo(f"cpuserve: error: {error}", err=True)
        sys.exit(2 if isinstance(error, UsageError) else 1)
