"""Draws NUMA nodes, cores, SMT siblings and seats as lines of text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cpuserve.machine.files import format_cpulist, parse_cpulist

__all__ = ["draw"]


def draw(report: Mapping[str, Any], width: int) -> list[str]:
    """Draw the map of a report of `cpuserve.machine.diagnosis`.

    Every core is a cell with its CPUs, siblings joined by ``+``. Cells are grouped by seat, ``idle``
    (allowed, in no seat) and ``barred`` (not in this server's mask).

    Args:
        report: its ``topology``, ``budget`` and ``seats`` are read.
        width: of the terminal, in columns.
    """
    cores = [core for node in report["topology"]["nodes"] for core in node["cores"]]
    kinds = {parse_cpulist(core["cpus"]): core["kind"] for core in cores}
    allowed = set(parse_cpulist(report["budget"]["cpus"]))
    rows = _rows(report, allowed)
    cells = {label: _cells(cpus, kinds) for label, cpus in rows.items()}
    label_width = max(map(len, cells), default=0)
    cell_width = max((len(cell) for row in cells.values() for cell in row), default=0)
    lines: list[str] = []
    for node in report["topology"]["nodes"]:
        lines.append(_head(node))
        here = {cpu for core in node["cores"] for cpu in parse_cpulist(core["cpus"])}
        for label, cpus in rows.items():
            if own := _cells(cpus & here, kinds):
                lines += _wrap(f"  {label:{label_width}} |", own, cell_width, width)
    text = "\n".join(lines)
    if "+" in text:
        lines.append("a+b: CPUs of one core (SMT siblings)")
    if re.search(r"\d\*", text):
        lines.append("*: the core's other CPU is elsewhere, so its speed is shared")
    if re.search(r"\de\b", text):
        lines.append("e: efficient core, slower than the others")
    return lines


def _rows(report: Mapping[str, Any], allowed: set[int]) -> dict[str, set[int]]:
    everything = {
        cpu
        for node in report["topology"]["nodes"]
        for core in node["cores"]
        for cpu in parse_cpulist(core["cpus"])
    }
    rows = {}
    for seat in report["seats"]:
        threads = f"{seat['threads']} thread{'s' if seat['threads'] != 1 else ''}"
        rows[f"seat {seat['index']}, {threads}"] = set(parse_cpulist(seat["cpus"]))
    seated = set().union(*rows.values())
    rows["idle" if rows else "usable"] = allowed - seated
    rows["barred"] = everything - allowed - seated
    return rows


def _cells(cpus: set[int], kinds: Mapping[tuple[int, ...], str | None]) -> list[str]:
    cells = []
    for core, kind in kinds.items():
        own = [cpu for cpu in core if cpu in cpus]
        if own:
            text = "+".join(map(str, own)) + ("e" if kind == "E" else "")
            cells.append(text + ("*" if len(own) < len(core) else ""))
    return cells


def _head(node: Mapping[str, Any]) -> str:
    cpus = [cpu for core in node["cores"] for cpu in parse_cpulist(core["cpus"])]
    name = "no NUMA node" if node["id"] is None else f"node {node['id']}"
    memory = node["memory_bytes"]
    parts = [f"{len(node['cores'])} cores, CPUs {format_cpulist(cpus)}" if cpus else "no CPUs"]
    if memory is not None:
        parts.append(f"{memory / (1 << 30):.1f} GiB" if memory else "no memory")
    others = {int(other): far for other, far in node["distances"].items() if other != str(node["id"])}
    for far in sorted(set(others.values())):
        nodes = format_cpulist(other for other, distance in others.items() if distance == far)
        parts.append(f"{far} from {nodes}")
    return f"{name}: {', '.join(parts)}"


def _wrap(label: str, cells: list[str], cell_width: int, width: int) -> list[str]:
    each = max(1, (width - len(label)) // (cell_width + 1))
    starts = range(0, len(cells), each)
    lines = ["".join(f" {cell:>{cell_width}}" for cell in cells[start : start + each]) for start in starts]
    blank = " " * (len(label) - 1) + "|"
    return [label + lines[0], *(blank + line for line in lines[1:])]
