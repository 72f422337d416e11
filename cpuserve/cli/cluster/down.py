"""`cpuserve cluster down`: ends the servers of a cluster."""

from __future__ import annotations

import click

from cpuserve.cli.cluster.shared import ray_option

__all__ = ["command"]


@click.command("down")
@ray_option
def command(address: str | None) -> None:
    """Let the servers of a cluster finish their requests, and end them. Ray itself goes on.

    \b
    Example:
      cpuserve cluster down
    """
    from cpuserve.cluster.ray_cluster import connected, stop_servers  # noqa: PLC0415

    with connected(address) as ray:
        count = stop_servers(ray)
    click.echo(f"{count} servers ended")
