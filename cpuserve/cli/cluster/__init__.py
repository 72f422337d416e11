"""`cpuserve cluster`: the group of its subcommands."""

from __future__ import annotations

import click

from cpuserve.cli.group import LazyGroup

__all__ = ["COMMANDS", "command"]

COMMANDS: dict[str, str] = {
    "up": "have Ray start and keep a server on each NUMA node of every node",
    "status": "list the servers of a cluster",
    "down": "end the servers of a cluster",
}
"""Each command has its module here."""


@click.command("cluster", cls=LazyGroup, package=__name__, summaries=COMMANDS)
def command() -> None:
    """Keep servers on all nodes of a Ray cluster.

    \b
    Example:
      cpuserve cluster up --ray 10.0.0.1:6379 yolox_nano --model-repository /models
      cpuserve cluster status
    """
