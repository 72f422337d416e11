"""What the commands of a cluster share: their option, and the table of servers."""

from __future__ import annotations

from typing import Any

import click

from cpuserve.cli.console import show_table

__all__ = ["ray_option", "show_servers"]

ray_option = click.option(
    "--ray",
    "address",
    metavar="ADDRESS",
    envvar="RAY_ADDRESS",
    help="Ray cluster, HOST:PORT [env RAY_ADDRESS; default: the one of this machine].",
)
"""``--ray``."""


def show_servers(status: dict[str, Any]) -> None:
    """Print the servers of a cluster as a table."""
    from rich.table import Table  # noqa: PLC0415  # not for --help

    table = Table("node", "NUMA node", "URL", "ready", "model", "restarts", "why not")
    for one in status["endpoints"]:
        numa = "-" if one["numa_node"] is None else str(one["numa_node"])
        ready = "yes" if one["ready"] else "no"
        table.add_row(
            *(one["node"], numa, one["url"] or "-", ready, ", ".join(one["model"]), str(one["restarts"])),
            one["reason"],
        )
    show_table(table)
    click.echo(f"registry: @{status['registry']}")
