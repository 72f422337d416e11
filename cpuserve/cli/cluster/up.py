"""`cpuserve cluster up`: has Ray start and keep servers."""

from __future__ import annotations

import os
import time
from typing import Any

import click
import orjson

from cpuserve.cli.cluster.shared import ray_option, show_servers
from cpuserve.cli.console import status as shown_status
from cpuserve.cli.number_range import NumberRange
from cpuserve.cli.options import json_option
from cpuserve.errors import CpuserveError, UsageError

__all__ = ["command"]

_LOOK_S = 0.5
_OWN = ("--host", "--port", "--node-id")


@click.command("up", context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[MODEL...] [OPTIONS OF SERVE]")
@ray_option
@click.option(
    "--first-port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="PORT",
    help="Port of the first server of a node, the others follow [default: free ones].",
)
@click.option(
    "--registry-port",
    type=click.IntRange(0, 65535),
    default=8790,
    show_default=True,
    metavar="PORT",
    help="Port of the registry, on the head node; 0 takes a free one.",
)
@click.option(
    "--wait",
    "wait_s",
    type=NumberRange(0),
    default=180.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait until all servers are ready.",
)
@json_option("Print the servers as one JSON object.")
def command(
    words: tuple[str, ...],
    address: str | None,
    first_port: int,
    registry_port: int,
    wait_s: float,
    as_json: bool,
) -> None:
    """Start a server on each NUMA node of every node of a Ray cluster, and keep them.

    All other words are those of cpuserve serve. A server that ends is started again, a node that comes gets
    its servers. They stay until cluster down.

    \b
    Example:
      cpuserve cluster up yolox_nano --model-repository /models --precision f32
      cpuserve cluster up --ray 10.0.0.1:6379 --first-port 8000
    """
    from cpuserve.cluster.ray_cluster import connected, find_keeper, start_keeper  # noqa: PLC0415
    from cpuserve.cluster.server_keeper import ServerSpec  # noqa: PLC0415

    _check(words)
    spec = ServerSpec(words, os.getcwd(), first_port)  # noqa: PTH109  # a string travels
    with connected(address) as ray, shown_status(shown=not as_json) as say:
        keeper = find_keeper(ray)
        if keeper is not None and ray.get(keeper.spec.remote()) != spec:
            raise CpuserveError(
                "servers with other words are up in this cluster: `cpuserve cluster down` ends them first"
            )
        if keeper is None:
            keeper = start_keeper(ray, spec, registry_port)
        found = _waited(ray, keeper, wait_s, say)
    click.echo(orjson.dumps(found)) if as_json else show_servers(found)
    late = [one for one in found["endpoints"] if not one["ready"]]
    if late or not found["endpoints"]:
        raise CpuserveError(
            f"{len(late)} of {len(found['endpoints'])} servers are not ready within {wait_s:g} s (--wait); "
            "they are kept, `cpuserve cluster status` looks again"
        )


def _check(words: tuple[str, ...]) -> None:
    """Refuse words that every server would refuse.

    Raises:
        UsageError: an option that is chosen for each server.
        click.ClickException: an option that serve does not know.
    """
    from cpuserve.cli.serve import command as serve  # noqa: PLC0415

    own = next((word for word in words if word.partition("=")[0] in _OWN), None)
    if own is not None:
        raise UsageError(f"{own} is chosen for each server: see --first-port")
    serve.make_context("serve", [*words])


def _waited(ray: Any, keeper: Any, wait_s: float, say: Any) -> dict[str, Any]:
    """The servers as soon as all are ready, or what there is when the time is over."""
    due = time.monotonic() + wait_s
    while True:
        try:
            found: dict[str, Any] = ray.get(keeper.status.remote(), timeout=max(30.0, wait_s))
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise CpuserveError(f"the servers cannot be started: {reason}") from error
        ready = sum(one["ready"] for one in found["endpoints"])
        if (found["endpoints"] and ready == len(found["endpoints"])) or time.monotonic() >= due:
            return found
        say(f"{ready} of {len(found['endpoints'])} servers are ready")
        time.sleep(_LOOK_S)
