"""Prints loads and scenarios of `cpuserve bench serve` as tables or CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from cpuserve.measuring.stable_windows import LoadLevel

__all__ = ["show_levels", "show_scenario", "write_csv"]

_WIDTH = 118
_FILES_ONLY = ("server_cores", "client_cores")
_COLUMNS = {
    "Concurrency": "concurrency",
    "Request Rate": "request_rate",
    "Offered/Second": "offered_per_s",
    "Inferences/Second": "images_per_s",
    "p50 latency": "p50_ms",
    "p95 latency": "p95_ms",
    "p99 latency": "p99_ms",
    "Server CPU-ms": "cpu_ms",
    "Server Cores": "server_cores",
    "Client Cores": "client_cores",
    "Foreign Cores": "foreign_cores",
    "Rows/Batch": "rows_a_batch",
    "Noise": "noise",
}


def show_levels(levels: Sequence[LoadLevel], unseen: str) -> None:
    """Prints a table, a row a load; ``unseen`` says why the server's CPU is not in it, or nothing."""
    from rich.console import Console  # noqa: PLC0415  # not for --help
    from rich.table import Table  # noqa: PLC0415

    rows = [level.figures() for level in levels]
    columns = {
        title: name
        for title, name in _COLUMNS.items()
        if name not in _FILES_ONLY and any(row[name] is not None for row in rows)
    }
    grid = Table(box=None, padding=(0, 1, 0, 0))
    for title in (*columns, "Errors", "Stable"):
        words = title.replace("/", "/\n").replace(" ", "\n")
        grid.add_column(words, justify="right", no_wrap=True)
    for row in rows:
        errors = ", ".join(f"{count} x {status}" for status, count in row["errors"].items())
        cells = [_cell(name, row[name]) for name in columns.values()]
        grid.add_row(*cells, errors or "0", "yes" if row["stable"] else "NO")
    Console(width=max(_WIDTH, Console().width)).print(grid)
    click.echo(
        "latency in ms; CPU-ms of the server's processes for each inference; noise: (max - min) / mean"
    )
    if unseen:
        click.echo(f"the server's CPU is not shown: {unseen}")


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" if name == "noise" else f"{value:g}" if name == "concurrency" else f"{value:.2f}"


def write_csv(file: Path, levels: Sequence[LoadLevel]) -> None:
    """Writes all columns, a row a load."""
    with file.open("w", newline="") as output:
        lines = csv.writer(output)
        lines.writerow([*_COLUMNS, "Errors", "Stable"])
        for level in levels:
            row = level.figures()
            lines.writerow(
                [*(row[name] for name in _COLUMNS.values()), sum(row["errors"].values()), row["stable"]]
            )


def show_scenario(found: dict[str, Any]) -> None:
    """Prints the verdict and the summary of `cpuserve.bench.loadgen.run_scenario`."""
    click.echo(f"LoadGen based, scenario {found['scenario']} (not an MLPerf result): {found['result']}")
    for reason in found["reasons"]:
        click.echo(f"  {reason}")
    for name, value in found["summary"].items():
        click.echo(f"  {name}: {value}")
    errors = ", ".join(f"{count} x {status}" for status, count in found["errors"].items())
    click.echo(f"  errors: {errors or 'none'}; server CPU-ms: {_cell('cpu_ms', found['cpu_ms'])}")
