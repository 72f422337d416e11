"""The `cpuserve` command: names the subcommands, prints errors, sets exit codes; each command is a module."""

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
    "serve": "serve the models of a repository over HTTP",
    "pull": "fetch models of the catalogue into the repository",
    "models": "list the models of the repository",
    "convert": "turn a model of any framework into one that is served",
    "quantize": "make an INT8 model of a float one, if it stays as good",
    "doctor": "show what the machine allows and whether a server sits as planned",
    "run": "start any program in a seat",
    "predict": "answer pictures in this process, without a server",
    "cutpoints": "list where a model can be cut",
    "cut": "cut a model in head, core and tail that are served as one",
    "test-reload": "prove that replacing a model under load loses no request",
    "profile": "account for every millisecond of a served model",
    "tune": "find, keep and explain the settings that serve best here",
    "bench": "measure servers, networks and frameworks",
}

EXIT_CODES = """\b
Exit codes: 0 done, 1 refused or failed (the message says what and how to change it),
2 wrong words on the command line."""


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
    """Run the command and leave the process with its exit code."""
    reserve()
    try:
        cli.main(arguments, prog_name="cpuserve", standalone_mode=True)
    except CpuserveError as error:
        click.echo(f"cpuserve: error: {error}", err=True)
        sys.exit(2 if isinstance(error, UsageError) else 1)
