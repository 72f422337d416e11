"""The tables of the page on serving, by machine, are those of the result files."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
LINES = (DOCS / "serving.md").read_text().splitlines()
SHAPES = (
    "shared epoll, 2 workers x 1 thread",
    "shared epoll, 1 worker x 2 threads",
    "shared epoll, 1 worker x 3 threads",
    "gthread, 2 workers x 2 threads",
    "gthread, 1 worker x 4 threads",
    "asgi, 2 workers, inline",
)


def result(name: str) -> Any:
    return json.loads((DOCS / "results" / f"{name}.json").read_text())


def row(begins: str) -> list[str]:
    """The cells of the line that begins so."""
    (line,) = [line for line in LINES if line.replace("**", "").startswith(f"| {begins} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_of_workers_is_that_of_both_files(shape):
    cells = row(shape)[1:]
    for place, name in enumerate(("worker-shape", "worker-shape-xeon")):
        windows = result(name)["windows"][shape]

        def median(load: str, figure: str, windows: Any = windows) -> float:
            return float(statistics.median(one[figure] for one in windows[load]))

        slowest = f"{median('c16', 'p99_ms'):.0f} / {median('c32', 'p99_ms'):.0f}"
        found = [f"{median('c16', 'images_per_s'):.0f}", f"{median('c16', 'cpu_ms'):.2f}", slowest]
        assert cells[place:6:2] == found, name


@pytest.mark.parametrize("delay_ms", [0, 2, 10])
def test_a_queue_delay_is_that_of_both_files(delay_ms):
    cells = row(str(delay_ms))[1:]
    for place, name in enumerate(("coalescing", "coalescing-xeon")):
        rows = [one for one in result(name)["rows"] if one["max_batch"] == 8]
        closed, opened = (one for one in rows if one["max_queue_delay_us"] == 1000 * delay_ms)
        assert (closed["connections"], opened["request_rate"]) == (32, 50.0)
        assert cells[place::2] == [f"{closed['images_per_s']:.0f}", f"{opened['p50_ms']:.0f}"], name
