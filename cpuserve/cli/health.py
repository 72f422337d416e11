"""`cpuserve health`: asks the server that runs here whether it is ready."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request

import click

from cpuserve.cli.number_range import NumberRange
from cpuserve.errors import CpuserveError

__all__ = ["command"]


@click.command("health")
@click.option("--pid", type=int, help="Ask the server of this process; needed where several run.")
@click.option("--live", is_flag=True, help="Ask whether it lives, not whether its models are ready.")
@click.option("--timeout", type=NumberRange(0.1), default=4.0, show_default=True, help="Seconds to wait.")
@click.option("--quiet", is_flag=True, help="Print nothing; see the exit code.")
def command(*, pid: int | None, live: bool, timeout: float, quiet: bool) -> None:
    """Ask the server that runs here whether it is ready, wherever it listens.

    It is found by the memory it shares with its workers, so that no port has to be known; no proxy is asked.

    \b
    Exit codes: 0 ready, 1 not ready, not answering, or no server runs here; 2 wrong options.

    \b
    Example:
      cpuserve health
      cpuserve health --pid 4711 --live
    """
    from cpuserve.cli.running_servers import choose_server  # noqa: PLC0415
    from cpuserve.serving.find_servers import find_servers  # noqa: PLC0415

    server = choose_server(find_servers(), pid)
    if server is None:
        raise CpuserveError("no server of this user runs here")
    url = f"http://{_reachable(server.address)}/v2/health/{'live' if live else 'ready'}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
    except OSError as error:
        raise CpuserveError(f"{url} does not answer: {error}") from error
    if not quiet:
        click.echo(f"{url}: {status}")
    sys.exit(0 if status == 200 else 1)


def _reachable(address: str) -> str:
    """An address that a client can use: one that means all addresses is answered on the loopback."""
    host, _, port = address.rpartition(":")
    own = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104
    return f"{own.get(host, host)}:{port}"
