"""`cpuserve cluster status`: lists the servers of a cluster."""

from __future__ import annotations

import sys

import click
import orjson

from cpuserve.cli.cluster.shared import ray_option, show_servers
from cpuserve.cli.options import json_option
from cpuserve.errors import CpuserveError

__all__ = ["command"]

_ANSWER_S = 30.0


@click.command("status")
@ray_option
@json_option("Print the servers as one JSON object, which is a registry too.")
def command(address: str | None, as_json: bool) -> None:
    """List the servers of a cluster: where they are, whether they are ready, how often they were restarted.

    The exit code is 1 if one is not ready.

    \b
    Example:
      cpuserve cluster status
      cpuserve cluster status --json > endpoints.json
    """
    from cpuserve.cluster.ray_cluster import connected, find_keeper  # noqa: PLC0415

    with connected(address) as ray:
        keeper = find_keeper(ray)
        if keeper is None:
            raise CpuserveError("no servers are up in this cluster: `cpuserve cluster up` starts them")
        try:
            found = ray.get(keeper.status.remote(), timeout=_ANSWER_S)
        except ray.exceptions.RayError as error:
            raise CpuserveError(f"the keeper of the servers does not answer: {error}") from error
    click.echo(orjson.dumps(found)) if as_json else show_servers(found)
    if not found["endpoints"] or not all(one["ready"] for one in found["endpoints"]):
        sys.exit(1)
