"""`cpuserve shadow`: shows how far a candidate agrees with the version that answers clients."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote

import click

from cpuserve.cli.console import show_table
from cpuserve.cli.options import json_option
from cpuserve.errors import CpuserveError

__all__ = ["command"]

_TIMES = {
    "infer_ms": "inference, mean ms",
    "infer_p50_ms": "inference, p50 ms",
    "infer_p99_ms": "inference, p99 ms",
    "cpu_ms": "CPU, mean ms",
}


@click.command("shadow")
@click.argument("model")
@click.option(
    "--url", default="http://127.0.0.1:8000", show_default=True, help="Address of the server.", metavar="URL"
)
@click.option("--api-key", envvar="CPUSERVE_API_KEY", default="", help="Sent to the server.", metavar="KEY")
@json_option("Print the report as JSON.")
def command(*, model: str, url: str, api_key: str, as_json: bool) -> None:
    """Show how far the shadow of MODEL agrees with the version that answers clients, and what both cost.

    The shadow is declared in rollout.json beside the versions, or by the setting shadow.

    \b
    Example:
      cpuserve shadow digits
      cpuserve shadow digits --url http://127.0.0.1:8080 --json
    """
    report = _asked(f"{url.rstrip('/')}/v2/models/{quote(model, safe='')}/shadow", api_key)
    if as_json:
        click.echo(json.dumps(report))
    else:
        _show(report)


def _asked(url: str, api_key: str) -> dict[str, Any]:
    """The report of a server.

    Raises:
        CpuserveError: it refuses, or does not answer.
    """
    request = urllib.request.Request(url, headers={"X-API-Key": api_key} if api_key else {})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  # the user's own URL
            found: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")
        try:
            text = json.loads(text)["error"]
        except (ValueError, LookupError, TypeError):
            text = text[:200]
        raise CpuserveError(f"{url}: {error.code}: {text}") from error
    except (OSError, ValueError) as error:
        raise CpuserveError(f"{url} does not answer as a server of cpuserve does: {error}") from error
    return found


def _show(report: dict[str, Any]) -> None:
    from rich.table import Table  # noqa: PLC0415

    requests, answers = report["requests"], report["answers"]
    agreement = report["agreement"]
    if agreement is None:
        click.echo(f"{report['model']}: nothing was compared yet. {report['why_silent']}".rstrip())
    else:
        click.echo(
            f"{report['model']}: {report['compares']} agree by {agreement:.4f} on {requests['compared']} "
            f"requests with {answers['answers']} answers, {answers['missed']} of them missed, "
            f"{answers['invented']} invented"
        )
    table = Table("", "stable", "candidate")
    table.add_row("version", *(report[role]["version"] for role in ("stable", "candidate")))
    for key, words in _TIMES.items():
        table.add_row(words, *(_text(report[role][key]) for role in ("stable", "candidate")))
    show_table(table)
    click.echo(
        f"share {report['share']:g}: {requests['shed']} left out, {requests['failed']} failed, "
        f"{requests['silent']} with nothing to compare"
    )
    if report["failure"]:
        click.echo(f"the candidate failed: {report['failure']}")


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
