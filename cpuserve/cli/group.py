"""A group of commands that imports the module of a command only when it is called."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

import click

__all__ = ["LazyGroup"]


class LazyGroup(click.Group):
    """Imports a subcommand only when it is called, so that --help is quick.

    Args:
        default: the subcommand that is meant by options alone; none by default.

    Attributes:
        summaries: what each subcommand does, in the order of the help.
    """

    def __init__(
        self, *args: Any, package: str, summaries: Mapping[str, str], default: str = "", **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._package = package
        self._default = default
        self.summaries = summaries

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default subcommand before options that are not the group's own."""
        own = {word for parameter in self.get_params(ctx) for word in parameter.opts}
        if self._default and args and args[0].startswith("-") and args[0] not in own:
            args = [self._default, *args]
        return super().parse_args(ctx, args)

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

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The subcommand that the first word names.

        Raises:
            UsageError: click's; there is none of that name. It names those that are spelled alike.
        """
        word = args[0]
        if word in self.summaries or word.startswith("-"):
            return super().resolve_command(context, args)
        begun = [name for name in self.summaries if name.startswith(word)]
        alike = begun or difflib.get_close_matches(word, self.summaries, cutoff=0.5)
        hint = f"did you mean {' or '.join(alike)}?" if alike else f"commands: {', '.join(self.summaries)}"
        context.fail(f"no command {word[:60]!r}; {hint}")

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """The list at the end of the help, without loading any of them."""
        if not self.summaries:
            return
        with formatter.section("Commands"):
            formatter.write_dl(list(self.summaries.items()))
