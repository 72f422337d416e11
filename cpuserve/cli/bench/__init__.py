"""`cpuserve bench`: the group of its subcommands."""

from __future__ import annotations

import click

from cpuserve.cli.group import LazyGroup

__all__ = ["COMMANDS", "command"]

COMMANDS: dict[str, str] = {
    "serve": "measure throughput, latency and CPU time of a server under load",
    "ceiling": "compare a server with the same work without HTTP",
    "compare": "run a network through OpenVINO and other frameworks",
    "networks": "time 13 well-known networks over batch sizes and precisions",
}


@click.command("bench", cls=LazyGroup, package=__name__, summaries=COMMANDS)
def command() -> None:
    """Measure servers, networks and frameworks.

    \b
    Example:
      cpuserve bench serve mobilenet_v2_1.0_224_quant --concurrency-range 1:32:x2
    """
