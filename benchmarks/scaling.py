"""Simulates clusters of 1 to 1,000 servers, draws them, and holds the simulation against balancers.

Run as ``python -m benchmarks.scaling [--only CASE] [--out FILE] [--pictures DIRECTORY]``. A server has 8
streams and answers in 20 ms, so that it carries 400 requests a second; what counts are ratios. Where servers
die or are updated it has 2 streams and answers in 100 ms, since that takes longer to happen. The validation
takes the times of docs/results/balancers.json.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.table import Table

from benchmarks.cluster_simulation import Cluster, ClusterRun, Policy, Traffic, Trouble, simulate_cluster
from cpuserve.measuring.results import write_result
from cpuserve.reports.charts import Dot, PlotLine, plot

__all__ = ["CASES", "main", "validated"]

SERVERS = (1, 2, 10, 100, 1000)
LOADS = (0.5, 0.6, 0.7, 0.8, 0.9)
POLICIES: tuple[Policy, ...] = get_args(Policy)

_SPREAD = 0.25  # of the logarithm of the service time: pictures differ
_REQUESTS = 120_000  # of one simulation, or more where that is less than a second
_MEASURED = Path(__file__).parent.parent / "docs" / "results" / "balancers.json"

Row = dict[str, Any]


@dataclass(frozen=True)
class _Size:
    """How much a server does at once, and how long an answer takes, in seconds."""

    at_once: int
    mean_s: float

    def rate(self, servers: float, load: float) -> float:
        """Requests a second that load so many servers by this share."""
        return load * servers * self.at_once / self.mean_s

    def times(self, count: int = 2000) -> list[float]:
        """Times of answers, lognormal around the mean."""
        dice = random.Random(7)  # noqa: S311  # no secrets
        return [self.mean_s * dice.lognormvariate(-(_SPREAD**2) / 2, _SPREAD) for _ in range(count)]


_QUICK, _SLOW = _Size(8, 0.02), _Size(2, 0.1)


def _steady(
    servers: int, load: float, policy: Policy, *, balancers: int = 1, slow: int = 0, **more: float
) -> Row:
    """A row where nothing happens; ``slow`` servers need twice as long, ``more`` is of `Traffic`."""
    rate = _QUICK.rate(servers - slow / 2, load)
    terms = (_QUICK.at_once, _QUICK.times(), policy, balancers, slow, 2.0)
    traffic = Traffic(rate, max(1.0, _REQUESTS / rate), **more)
    found = simulate_cluster(traffic, Cluster(servers, *terms), seed=1)
    return {"servers": servers, "load": load, "policy": policy, **_figures(found)}


def _troubled(servers: int, load: float, trouble: Trouble, seconds: float) -> Row:
    """A row where servers die or are replaced."""
    cluster = Cluster(servers, _SLOW.at_once, _SLOW.times(), "full scan")
    found = simulate_cluster(Traffic(_SLOW.rate(servers, load), seconds), cluster, trouble, seed=1)
    return {"servers": servers, "load": load, **_figures(found)}


def _figures(found: ClusterRun) -> Row:
    mean = statistics.fmean(found.answered_by)
    return {
        "requests": found.requests,
        "p50_ms": round(1000 * found.latency_s(0.5), 2),
        "p99_ms": round(1000 * found.latency_s(0.99), 2),
        "refused": found.refused,
        "lost": found.lost,
        "again": found.again,
        "busiest": round(max(found.answered_by) / mean, 3),
    }


def policies() -> list[Row]:
    """p99 by load and policy: 10 equal servers."""
    return [_steady(10, load, policy) for policy in POLICIES for load in LOADS]


def unequal() -> list[Row]:
    """The same where one of the 10 servers needs twice as long; the load is of what they can do together."""
    return [_steady(10, load, policy, slow=1) for policy in POLICIES for load in LOADS]


def sizes() -> list[Row]:
    """p99 at a load of 0.8, from 1 server to 1,000, one in ten of which needs twice as long."""
    return [_steady(servers, 0.8, policy, slow=servers // 10) for policy in POLICIES for servers in SERVERS]


def balancers() -> list[Row]:
    """100 servers at a load of 0.8, one in ten slow, behind 1 to 100 balancers that know only their own."""
    chosen: tuple[Policy, ...] = ("power of two", "full scan")
    return [
        {"balancers": many, **_steady(100, 0.8, policy, balancers=many, slow=10)}
        for policy in chosen
        for many in (1, 3, 10, 30, 100)
    ]


def bursts() -> list[Row]:
    """Bursts of twice and three times the rate, a second each, a tenth of the time; 10 servers."""
    return [
        {"burst": burst, **_steady(10, load, "full scan", burst=burst, burst_share=0.1, burst_s=1.0)}
        for burst in (1.0, 2.0, 3.0)
        for load in (0.3, 0.4, 0.5, 0.6)
    ]


def failures() -> list[Row]:
    """A server dies every 10 s or so and is back after 10 s, at a load of 0.6."""
    return [
        _troubled(servers, 0.6, Trouble(mtbf_s=10.0 * servers, noticed_s=2, start_s=10), 60)
        for servers in SERVERS
    ]


def updates() -> list[Row]:
    """A rolling update at a load of 0.7, by the share of the servers that is replaced at the same time."""
    rows = []
    for servers in (10, 100):
        for share in (0.1, 0.2, 0.3, 0.4):
            trouble = Trouble(update_at_once=round(servers * share), drain_s=1, start_s=5)
            seconds = 6 / share + 10
            rows.append({"share": share, **_troubled(servers, 0.7, trouble, seconds)})
    return rows


def validated(measured: Mapping[str, Any]) -> list[Row]:
    """The situations of `benchmarks.balancers`, simulated with the times of single requests.

    Args:
        measured: the result file of `benchmarks.balancers`.

    Returns:
        A row for each of its rows in which no server is killed: p50, p99 and the second server's share,
        measured and simulated.
    """
    alone = {
        (row["balancer"], row["protocol"]): [one / 1000 for one in row["alone_ms"]]
        for row in measured["rows"]
        if "alone_ms" in row
    }
    rows = []
    for row in measured["rows"]:
        if row["situation"] == "killed":  # it is started again as fast as the machine can
            continue
        trouble = Trouble(stopped_share=0.5 if row["situation"] == "slowed" else 0.0)
        cluster = Cluster(2, 1, alone[row["balancer"], row["protocol"]], "full scan")
        traffic = Traffic(measured["rate_per_s"], max(measured["seconds"], 60))
        found = simulate_cluster(traffic, cluster, trouble, seed=1)
        share = found.answered_by[1] / sum(found.answered_by)
        rows.append(
            {
                **{key: row[key] for key in ("balancer", "protocol", "situation")},
                **{key: row[key] for key in ("p50_ms", "p99_ms", "of_second")},
                "simulated_p50_ms": round(1000 * found.latency_s(0.5), 2),
                "simulated_p99_ms": round(1000 * found.latency_s(0.99), 2),
                "simulated_of_second": round(share, 3),
            }
        )
    return rows


CASES: Mapping[str, Callable[[], list[Row]]] = {
    one.__name__: one for one in (policies, unequal, sizes, balancers, bursts, failures, updates)
}
"""What is simulated, by name."""


def _line_plot(rows: Sequence[Row], by: str, x: str, x_title: str) -> str:
    """An SVG of p99 by ``x``, a line for each value of ``by``."""
    names = list(dict.fromkeys(row[by] for row in rows))
    places = list(dict.fromkeys(row[x] for row in rows))
    dots, lines = [], []
    for at, name in enumerate(names):
        corners = [(float(places.index(row[x])), row["p99_ms"]) for row in rows if row[by] == name]
        dots += [Dot(*corner, kind=f"series s{at}") for corner in corners]
        lines.append(PlotLine(corners, f"series s{at}"))
    legend = [(f"series s{at}", f"{name}") for at, name in enumerate(names)]
    words = [f"{place:g}" for place in places]
    return plot(dots, lines, x_title, "p99 in ms", x_names=words, log=True, legend=legend).file_text()


PICTURES = {
    "policies": ("policy", "load", "load of 10 equal servers"),
    "unequal": ("policy", "load", "load of 10 servers, one of them slow"),
    "sizes": ("policy", "servers", "servers at a load of 0.8"),
    "balancers": ("policy", "balancers", "balancers before 100 servers at a load of 0.8"),
    "bursts": ("burst", "load", "mean load of 10 servers"),
    "updates": ("servers", "share", "share replaced at the same time, at a load of 0.7"),
}


def _show(console: Console, name: str, rows: Sequence[Row]) -> None:
    table = Table(box=None, title=name, title_justify="left")
    for column in rows[0]:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console.print(table)


def main(words: Sequence[str] | None = None) -> None:
    """Simulate, print, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=[*CASES, "validation"], action="append")
    parser.add_argument("--measured", type=Path, default=_MEASURED, help="the result of benchmarks.balancers")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--pictures", type=Path, help="directory of the pictures")
    given = parser.parse_args(words)
    console = Console()
    content: dict[str, Any] = {}
    for name, simulate in CASES.items():
        if not given.only or name in given.only:
            content[name] = {"what": (simulate.__doc__ or "").strip(), "rows": simulate()}
            _show(console, name, content[name]["rows"])
    if (not given.only or "validation" in given.only) and given.measured.exists():
        measured = json.loads(given.measured.read_text())
        content["validation"] = {"what": "measured and simulated", "rows": validated(measured)}
        _show(console, "validation", content["validation"]["rows"])
    if given.pictures:
        given.pictures.mkdir(exist_ok=True)
        for name, terms in PICTURES.items():
            if name in content:
                (given.pictures / f"{name}.svg").write_text(_line_plot(content[name]["rows"], *terms))
    if given.out:
        write_result(given.out, ["python", "-m", "benchmarks.scaling", *sys.argv[1:]], content)


if __name__ == "__main__":
    main()
