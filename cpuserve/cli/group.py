"""A group of commands whose modules are loaded when they are asked for; it runs nothing itself."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

__all__ = ["LazyGroup"]


class LazyGroup(click.Group):
    """Loads a subcommand only when it is asked for, so that --help starts at once.

    Attributes:
        summaries: what each subcommand does, in the order of the help.
    """

    def __init__(self, *args: Any, package: str, summaries: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._package = package
        self.summaries = summaries

    def list_commands(self, _context: click.Context) -> list[str]:
        """Names, in the order of the help."""
        return list(self.summaries)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """The `command` of the module of that name; None when there is none."""
        if name not in self.summaries:
            return None
        module = importlib.import_module(f"{self._package}.{name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """The list at the end of the help, without loading any of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.summaries.items()))
