"""Compares other serving stacks with this one in rounds of changing order.

Run as ``python -m benchmarks.rivals --harness DIR --peers cpuserve,mosec``. ``DIR/bench.py`` starts
each peer with the same model, pictures and cores, puts a client to it and appends a JSON line a peer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cpuserve.measuring.results import write_result

__all__ = ["main", "markdown", "summary"]

_LOAD_FIGURES = ("rps", "cpu_ms", "p50", "p99", "client", "foreign")
_HEAD: tuple[str, ...] = ("server", "load", "images/s", "CPU-ms", "times ours", "of ceiling's CPU")
_HEAD += ("p50 ms", "p99 ms", "client's cores", "foreign cores")
_PAIRED_HEAD: tuple[str, ...] = ("server", "windows", "images/s", "CPU-ms", "times ours (quartiles)")
_PAIRED_HEAD += ("p50 ms", "p99 ms", "foreign cores")
_PASSED_ON = ("model", "image", "work", "conc", "open", "seconds", "group")

Row = Mapping[str, Any]


def main() -> None:
    """Run the rounds, then print or write medians and how far the rounds lie apart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--harness", type=Path, help="folder with bench.py")
    parser.add_argument(
        "--show", type=Path, nargs="+", help="measure nothing: print result files as markdown tables"
    )
    parser.add_argument("--python", default=sys.executable, help="interpreter that has what bench.py needs")
    parser.add_argument("--peers", default="cpuserve,mosec,triton")
    parser.add_argument("--own", default="cpuserve", help="the peer the others are compared with")
    parser.add_argument("--rounds", type=int, default=3)
    for name in _PASSED_ON:
        parser.add_argument(f"--{name}", help="as bench.py takes it")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.show:
        tables = [markdown(json.loads(file.read_text())) for file in given.show]
        Console().print("\n\n".join(tables), markup=False, soft_wrap=True)
        return
    if not given.harness:
        parser.error("--harness DIR is needed, the folder of bench.py")
    rounds = [_round(given, number) for number in range(given.rounds)]
    found = summary(rounds, given.own)
    Console().print(_table(found["peers"]))
    for peer, reason in found["failed"].items():
        Console().print(f"{peer}: {reason}", markup=False)
    if given.out:
        write_result(given.out, ["python", "-m", "benchmarks.rivals", *sys.argv[1:]], found)


def _round(given: argparse.Namespace, number: int) -> list[Row]:
    peers = given.peers.split(",")
    turn = number % len(peers)
    words = ["--peers", ",".join(peers[turn:] + peers[:turn])]
    for name in _PASSED_ON:
        value = getattr(given, name)
        words += [f"--{name}", value] if value is not None else []
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "rows.jsonl"
        command = [given.python, str(given.harness / "bench.py"), *words, "--out", str(lines)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return [json.loads(line) for line in lines.read_text().splitlines()]


def summary(rounds: Sequence[Sequence[Row]], own: str) -> dict[str, Any]:
    """Medians over rounds.

    Args:
        rounds: the harness's rows, by round.
        own: the peer that the others are compared with.

    Returns:
        ``peers``: by name ``version``, ``note``, ``loads`` (by ``c16`` or ``300/s``; each figure with
        ``median`` and ``noise``, which is highest less lowest over the median), ``ceiling_cpu_ms``,
        ``pss_mib``, and against ``own`` ``cpu_times`` and ``rps_times`` at each load. ``failed``: why others
        have no row.
    """
    rows: dict[str, list[Row]] = {}
    failed: dict[str, str] = {}
    for row in (row for one in rounds for row in one):
        if "error" in row:
            failed[row["peer"]] = str(row["error"])[:400]
        else:
            rows.setdefault(row["peer"], []).append(row)
    peers = {name: _peer(found) for name, found in rows.items()}
    if own in peers:
        for peer in peers.values():
            for load, figures in peer["loads"].items():
                mine = peers[own]["loads"].get(load)
                if mine:
                    figures["cpu_times"] = figures["cpu_ms"]["median"] / mine["cpu_ms"]["median"]
                    figures["rps_times"] = figures["rps"]["median"] / mine["rps"]["median"]
    return {"rounds": len(rounds), "peers": peers, "failed": failed}


def _peer(rows: Sequence[Row]) -> dict[str, Any]:
    first = rows[0]
    loads = [(f"c{count}", "closed", count) for count in first["closed"]]
    loads += [(f"{rate}/s", "open", rate) for rate in first["open"]]
    return {
        **{key: first[key] for key in ("version", "note", "model", "image", "work", "agrees")},
        "loads": {
            name: {
                **{key: _median([row[kind][at][key] for row in rows]) for key in _LOAD_FIGURES},
                "bad": sum(row[kind][at]["bad"] + row[kind][at]["broken"] for row in rows),
            }
            for name, kind, at in loads
        },
        "ceiling_cpu_ms": _median([_ceiling(row)["cpu_ms"] for row in rows]),
        "ceiling_rps": _median([_ceiling(row)["rps"] for row in rows]),
        "pss_mib": _median([row["pss"] for row in rows]),
    }


def _ceiling(row: Row) -> Mapping[str, float]:
    """The better of the two around the peer: whatever else ran can only have slowed the other one."""
    found: Mapping[str, float] = max(row["ceiling_before"], row["ceiling_after"], key=lambda one: one["rps"])
    return found


def _median(values: Sequence[float]) -> dict[str, float]:
    middle = statistics.median(values)
    return {"median": middle, "noise": (max(values) - min(values)) / middle if middle else 0.0}


def _rows(peers: Mapping[str, Any]) -> list[list[str]]:
    rows = [list(_HEAD)]
    for name, peer in peers.items():
        for load, figures in peer["loads"].items():
            rate, cpu = figures["rps"], figures["cpu_ms"]
            rows.append(
                [
                    f"{name} {peer['version']}",
                    load,
                    f"{rate['median']:.0f} ± {50 * rate['noise']:.0f} %",
                    f"{cpu['median']:.2f} ± {50 * cpu['noise']:.0f} %",
                    f"{figures['cpu_times']:.2f}" if "cpu_times" in figures else "",
                    f"{cpu['median'] / peer['ceiling_cpu_ms']['median']:.2f}",
                    f"{figures['p50']['median']:.1f}",
                    f"{figures['p99']['median']:.1f}",
                    f"{figures['client']['median']:.2f}",
                    f"{figures['foreign']['median']:.2f}",
                ]
            )
    return rows


def _table(peers: Mapping[str, Any]) -> Table:
    head, *rows = _rows(peers)
    table = Table(*head)
    for row in rows:
        table.add_row(*row)
    return table


def markdown(found: Mapping[str, Any]) -> str:
    """The table of a result file, fewest CPU milliseconds first within each load.

    A file of windows by turns (``rows`` and ``summary``) has a table of its own, in the file's order.
    """
    if "summary" in found:
        return "\n".join(_lines(_paired_rows(found)))
    head, *rows = _rows(found["peers"])
    loads = list(dict.fromkeys(row[1] for row in rows))
    rows.sort(key=lambda row: (loads.index(row[1]), float(row[3].split()[0])))
    return "\n".join(_lines([head, *rows]))


def _lines(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *others = rows
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *others)]


def _paired_rows(found: Mapping[str, Any]) -> list[list[str]]:
    """Medians over windows by turns; the ceiling has no clients, so no latency."""
    rows = [list(_PAIRED_HEAD)]
    for name, peer in found["summary"].items():
        windows = found["rows"][name]
        least, most = peer["cpu_quartiles"]
        latency = [f"{peer[key]:.1f}" if key in peer else "" for key in ("p50", "p99")]
        foreign = [one["foreign"] for one in windows if "foreign" in one]
        rows.append(
            [
                name,
                str(len(windows)),
                f"{peer['rps']:.0f}",
                f"{peer['cpu_ms']:.2f}",
                f"{peer['cpu_ratio']:.2f} ({least:.2f} to {most:.2f})",
                *latency,
                f"{statistics.median(foreign):.2f}" if foreign else "",
            ]
        )
    return rows


if __name__ == "__main__":
    main()
