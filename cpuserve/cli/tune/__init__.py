"""`cpuserve tune`: the group of its subcommands; words that are no subcommand are models to search for."""

from __future__ import annotations

import click

from cpuserve.cli.group import LazyGroup

__all__ = ["COMMANDS", "command"]

COMMANDS: dict[str, str] = {
    "search": "find the best settings; `cpuserve tune MODEL` is the same",
    "report": "explain what was found",
    "export": "write what was found for other programs",
}


class _Tune(LazyGroup):
    """Puts ``search`` before words that begin with no subcommand."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        own = (*context.help_option_names, *COMMANDS)
        return super().parse_args(context, args if not args or args[0] in own else ["search", *args])


@click.command("tune", cls=_Tune, package=__name__, summaries=COMMANDS)
def command() -> None:
    """Find, keep and explain the settings that serve models best on this machine.

    \b
    Example:
      cpuserve tune mobilenet_v2_1.0_224_quant --budget 20m
      cpuserve tune report mobilenet_v2_1.0_224_quant
      cpuserve tune export mobilenet_v2_1.0_224_quant --to benchmark_app
    """
