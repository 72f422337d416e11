"""`cpuserve doctor`: shows what this machine allows and checks that a server runs as planned."""

from __future__ import annotations

import http.client
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
import orjson

from cpuserve.cli.number_range import NumberRange
from cpuserve.cli.options import json_option
from cpuserve.cli.running_servers import choose_server
from cpuserve.errors import CpuserveError, UsageError

if TYPE_CHECKING:
    from rich.console import Console


__all__ = ["command"]

_TIMEOUT_S = 10
_TITLES = {
    "budget": "Budget",
    "pod": "Pod",
    "throttling": "Throttling",
    "server": "Server",
    "openmp": "OpenMP",
    "memory": "Memory",
    "processor": "Processor",
}


@click.command("doctor")
@json_option("Print JSON, as GET /v2/placement answers it.")
@click.option("--url", metavar="URL", help="Ask the server at this address, such as http://127.0.0.1:8000.")
@click.option(
    "--api-key",
    envvar="CPUSERVE_API_KEY",
    metavar="KEY",
    help="API key for --url. [env CPUSERVE_API_KEY]",
)
@click.option("--pid", type=int, help="Check the server of this process; it need not answer.")
@click.option(
    "--window",
    type=NumberRange(0, 600),
    default=1.0,
    show_default=True,
    help="Seconds over which throttling is counted.",
)
@click.option("--threads", "each_thread", is_flag=True, help="List every thread instead of groups.")
def command(
    *, as_json: bool, url: str | None, api_key: str | None, pid: int | None, window: float, each_thread: bool
) -> None:
    """Show what this machine allows and check that a running server uses its seats as planned.

    Without --url and --pid it looks for a server of this user. Without a server it checks the machine alone.
    Every line is green, yellow (costs speed or is unknown) or red (not as planned). The exit code is 1 when a
    line is red.

    \b
    Example:
      cpuserve doctor
      cpuserve doctor --url http://127.0.0.1:8000 --json
    """
    if url and pid is not None:
        raise UsageError("--url and --pid both name a server: leave one out")
    report = _ask(url, api_key, window) if url else _look(pid, window)
    if as_json:
        click.echo(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    else:
        _show(report, each_thread=each_thread)
    sys.exit(1 if report["level"] == "red" else 0)


def _look(pid: int | None, window: float) -> dict[str, Any]:
    from cpuserve.machine.diagnosis import diagnose, throttling_sample  # noqa: PLC0415  # not for --help
    from cpuserve.serving.find_servers import find_servers  # noqa: PLC0415

    servers = find_servers()
    server = choose_server(servers, pid)
    before = throttling_sample(server)
    time.sleep(window if server else 0)
    others = [other for other in servers if server and other.pid != server.pid]
    if server:
        # workers come and go: check those of now
        server = next((one for one in find_servers() if one.pid == server.pid), server)
    return diagnose(server, before, neighbours=others)


def _ask(url: str, api_key: str | None, window: float) -> dict[str, Any]:
    parts = urlsplit(url if "//" in url else f"//{url}", scheme="http")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise UsageError(f"--url {url}: write it as http://HOST:PORT")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, port, timeout=_TIMEOUT_S)
    path = parts.path.rstrip("/") + "/v2/placement"
    try:
        # The same worker answers twice, and the second answer counts throttling from the first.
        _get(connection, path, api_key)
        time.sleep(window)
        return _get(connection, path, api_key)
    except (OSError, http.client.HTTPException) as error:
        raise CpuserveError(f"--url {url} does not answer: {error}") from error
    finally:
        connection.close()


def _get(connection: http.client.HTTPConnection, path: str, api_key: str | None) -> dict[str, Any]:
    connection.request("GET", path, headers={"Authorization": f"Bearer {api_key}"} if api_key else {})
    response = connection.getresponse()
    body = response.read()
    if response.status == 200:
        with suppress(orjson.JSONDecodeError):
            report = orjson.loads(body)
            if isinstance(report, dict) and "findings" in report:
                return report
    if response.status == 401:
        raise CpuserveError("the server needs an API key: give --api-key, or set CPUSERVE_API_KEY")
    raise CpuserveError(f"GET {path} was answered {response.status}, no report: is it a cpuserve server?")


def _preset(preset: Mapping[str, Any] | None) -> str:
    if not preset or not preset["models"]:
        return "none"
    return "; ".join(f"{name}: {one['path']}, {one['match']}" for name, one in preset["models"].items())


def _show(report: Mapping[str, Any], *, each_thread: bool) -> None:
    from rich.console import Console  # noqa: PLC0415  # not for --help

    from cpuserve.cli.machine_map import draw  # noqa: PLC0415

    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=False)
    server, machine = report["server"], report["machine"]
    console.print(f"machine  {machine['name']}, Linux {machine['kernel']}")
    if server:
        told = f"pid {server['pid']} at {server['address']}, {len(report['seats'])} seats"
        console.print(f"server   {told}, {server['threads']} compute threads")
    console.print(f"preset   {_preset(report['preset'])}")
    _section(console, report, "budget")
    _section(console, report, "pod")
    _section(console, report, "throttling")
    console.print("\nMap", style="bold")
    for line in draw(report, console.width - 2):
        console.print(f"  {line}", no_wrap=True)
    for section in ("server", "openmp", "memory", "processor"):
        _section(console, report, section)
        if section == "server":
            _threads(console, report["workers"], each_thread=each_thread)
    counts = {level: sum(one["level"] == level for one in report["findings"]) for level in _STYLES}
    console.print()
    console.print(", ".join(f"{count} {level}" for level, count in counts.items()), style="bold")


_STYLES = {"green": "green", "yellow": "yellow", "red": "bold red"}


def _section(console: Console, report: Mapping[str, Any], section: str) -> None:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    findings = [finding for finding in report["findings"] if finding["section"] == section]
    if not findings:
        return
    console.print(f"\n{_TITLES[section]}", style="bold")
    table = Table.grid(padding=(0, 1))
    table.add_column(width=8, no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        text = Text(finding["text"])
        if finding["advice"]:
            text.append(f"\n-> {finding['advice']}", style="italic")
        table.add_row(Text(f"  {finding['level']}", style=_STYLES[finding["level"]]), text)
    console.print(table)


def _threads(console: Console, workers: list[Mapping[str, Any]], *, each_thread: bool) -> None:
    from rich.table import Table  # noqa: PLC0415

    if not any(worker["threads"] for worker in workers):
        return
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("  seat", "pid", "state", "threads", "may run on", "ran last on"):
        table.add_column(name, overflow="fold", justify="left")
    for worker in workers:
        who = (f"  {worker['seat']}", str(worker["pid"]), worker["state"])
        for cells in _rows(worker["threads"], each_thread=each_thread):
            table.add_row(*who, *cells)
            who = ("", "", "")
    console.print()
    console.print(table)


def _rows(threads: list[Mapping[str, Any]], *, each_thread: bool) -> Iterator[tuple[str, str, str]]:
    from cpuserve.machine.files import format_cpulist  # noqa: PLC0415

    if each_thread:
        for thread in threads:
            yield f"{thread['tid']} {thread['name']}", thread["allowed"], str(thread["last_cpu"])
        return
    for allowed in dict.fromkeys(thread["allowed"] for thread in threads):
        group = [thread for thread in threads if thread["allowed"] == allowed]
        last = format_cpulist(thread["last_cpu"] for thread in group if thread["last_cpu"] is not None)
        yield str(len(group)), allowed, last
