"""A command whose ``--help`` lists its options in sections."""

from __future__ import annotations

from typing import Any

import click

__all__ = ["SectionedCommand", "SectionedOption"]


class SectionedOption(click.Option):
    """An option that belongs to a section.

    Attributes:
        section: its title.
    """

    def __init__(self, *args: Any, section: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class SectionedCommand(click.Command):
    """Lists its options in sections, in the order in which they begin; other options are under "Options"."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options in the help."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            row = option.get_help_record(ctx)
            if row is not None:
                title = option.section if isinstance(option, SectionedOption) else "Options"
                sections.setdefault(title, []).append(row)
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)
