"""The `cpuserve` command: lists the subcommands, prints errors and sets exit codes."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

import cpuserve
from cpuserve.cli.foreign_words import check_words, instead_of
from cpuserve.cli.group import LazyGroup
from cpuserve.errors import CpuserveError, MissingExtra, UnknownModel, UsageError
from cpuserve.machine.standard_streams import reserve

__all__ = ["COMMANDS", "cli", "main"]

COMMANDS = {
    "serve": "serve the models of the repository over HTTP",
    "pull": "download models of the catalogue into the repository",
    "models": "list the models of the repository",
    "convert": "convert a model of any framework and publish it",
    "quantize": "quantize a model to INT8 and check its accuracy",
    "doctor": "check the machine, and whether a running server uses it as planned",
    "health": "ask the server that runs here whether it is ready",
    "run": "run any program on the CPUs of one seat",
    "predict": "run a model on pictures, without a server",
    "batch": "answer folders of pictures and videos into shards, and go on when it was ended",
    "cluster": "keep a server on each NUMA node of every node of a Ray cluster",
    "cutpoints": "list where a model can be cut",
    "cut": "cut a model into head, core and tail and serve them as one",
    "test-reload": "test that replacing a model under load loses no request",
    "shadow": "show how far a version that is tried agrees with the one that answers",
    "profile": "show where a served model spends its time",
    "tune": "find the fastest settings for a model on this machine",
    "plan": "compute how many machines a rate of pictures takes, and what a million costs",
    "video": "run models on video files and streams",
    "bench": "measure servers, networks and frameworks",
}

EXIT_CODES = """\b
Exit codes: 0 done, 1 refused or failed (the message says why and what to change),
2 wrong options, 4 packages of an extra are missing, 130 ended by Ctrl-C
(a server, and video infer and run of a live source, end so with 0)."""
_VERSION = f"cpuserve %(version)s, OpenVINO {version('openvino')}, Python {platform.python_version()}"
_FAILED, _WRONG_OPTIONS, _MISSING_EXTRA, _INTERRUPTED = 1, 2, 4, 130


@click.command(
    cls=LazyGroup,
    package=__name__,
    summaries=COMMANDS,
    default="serve",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)
@click.version_option(cpuserve.__version__, message=_VERSION)
def cli() -> None:
    """Serve deep-learning vision models on the CPU servers you already own.

    Options without a command are those of serve.

    \b
    Example:
      cpuserve serve
      curl --data-binary @photo.jpg http://127.0.0.1:8000/predictions/digits
    """


def main(arguments: list[str] | None = None) -> Any:
    """Run the command and end the process with its exit code."""
    reserve()
    try:
        check_words(sys.argv[1:] if arguments is None else arguments)
        code = cli.main(arguments, prog_name="cpuserve", standalone_mode=False)
        sys.stdout.flush()
    except CpuserveError as error:
        click.echo(f"cpuserve: error: {error}{_not_here_yet(error)}", err=True)
        sys.exit(_code(error))
    except click.NoSuchOption as error:
        error.show()
        given = sys.argv[1:] if arguments is None else arguments
        if file := next((word for word in given if word.startswith("-") and Path(word).exists()), None):
            click.echo(f"Instead: a file whose name begins with - is written ./{file}", err=True)
        elif hint := instead_of(error):
            click.echo(f"Instead: {hint}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:  # who reads the output has what it wanted, as head has
        _end_output()
        sys.exit(_FAILED)
    except OSError as error:
        click.echo(f"cpuserve: error: {_reason(error)}", err=True)
        try:
            sys.stdout.flush()
        except OSError:  # it is the output that cannot be written, as has been said
            _end_output()
        sys.exit(_FAILED)
    except (click.Abort, KeyboardInterrupt):  # click's word for Ctrl-C, and Python's outside of a command
        click.echo("cpuserve: ended by Ctrl-C", err=True)
        sys.exit(_INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _end_output() -> None:
    """Let what is left of the output go nowhere when the interpreter ends and flushes it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _reason(error: OSError) -> str:
    """What the system refused, and of which file."""
    said = error.strerror or str(error)
    # of two files, such as those of a copy, the second is the one that is written
    file = error.filename if error.filename2 is None else error.filename2
    return said if file is None else f"{os.fsdecode(file)}: {said}"


def _not_here_yet(error: CpuserveError) -> str:
    """What fetches the model that was asked for, where the catalogue has it and the repository has not."""
    missing = error if isinstance(error, UnknownModel) else error.__cause__
    if not isinstance(missing, UnknownModel) or not missing.name:
        return ""
    from cpuserve.authoring.catalog import known_names  # noqa: PLC0415  # not for --help

    return f"; not here yet: cpuserve pull {missing.name}" if missing.name in known_names() else ""


def _code(error: CpuserveError) -> int:
    if isinstance(error, MissingExtra):
        return _MISSING_EXTRA
    return _WRONG_OPTIONS if isinstance(error, UsageError) else _FAILED
