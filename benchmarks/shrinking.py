"""Measures the bytes and time a client saves by shrinking pictures before it sends them.

Run as ``python -m benchmarks.shrinking --model-repository DIR --model NAME --images DIR [--out FILE]``.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from cpuserve.client import Client, shrink
from cpuserve.errors import CpuserveError
from cpuserve.measuring.local_server import local_server
from cpuserve.measuring.pictures import pictures
from cpuserve.measuring.results import write_result

__all__ = ["main"]

_CHUNK = 16 << 10
_TIMEOUT_S = 120


def main() -> None:
    """Send every picture whole and shrunk, by turns, over each line; print or write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-repository", type=Path, default=Path("ir_models"))
    parser.add_argument("--model", default="digits")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--mbit", type=float, nargs="+", default=[0, 100, 10], help="of the line; 0: any")
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with (
        pictures(given.images) as sent,
        local_server(given.model, {"model_repository": given.model_repository}, None) as local,
    ):
        with Client(local.url) as client:
            size = client.input_size(given.model)
        if size is None:
            parser.error(f"model {given.model} takes no pictures")
        address = urlsplit(local.url).netloc
        connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_S)
        rows = [
            _measure(connection, given.model, sent.files, size, mbit, given.passes) for mbit in given.mbit
        ]
        connection.close()
    table = Table("line", "KiB whole", "KiB shrunk", "ms whole", "ms shrunk", "of it shrinking", "same class")
    for row in rows:
        line = f"{row['mbit']:g} Mbit/s" if row["mbit"] else "loopback"
        keys = ("whole_kib", "shrunk_kib", "whole_ms", "shrunk_ms", "shrinking_ms")
        table.add_row(line, *(f"{row[key]:.1f}" for key in keys), f"{row['same_class']:.0%}")
    Console().print(table)
    if given.out:
        words = ["python", "-m", "benchmarks.shrinking", *sys.argv[1:]]
        write_result(given.out, words, {"pictures": sent.name, "input": list(size), "lines": rows})


def _measure(
    connection: http.client.HTTPConnection,
    model: str,
    files: Sequence[Path],
    size: tuple[int, int],
    mbit: float,
    passes: int,
) -> dict[str, Any]:
    found: dict[str, list[float]] = {key: [] for key in ("whole_ms", "shrunk_ms", "shrinking_ms")}
    lengths: dict[str, list[int]] = {"whole_kib": [], "shrunk_kib": []}
    same = []
    for _ in range(passes):
        for file in files:
            data = file.read_bytes()
            began = time.perf_counter()
            whole = _post(connection, model, data, mbit)
            middle = time.perf_counter()
            small = shrink(data, *size)
            shrunk = time.perf_counter()
            less = _post(connection, model, small, mbit)
            end = time.perf_counter()
            found["whole_ms"].append(1000 * (middle - began))
            found["shrunk_ms"].append(1000 * (end - middle))
            found["shrinking_ms"].append(1000 * (shrunk - middle))
            lengths["whole_kib"].append(len(data))
            lengths["shrunk_kib"].append(len(small))
            same.append(whole == less)
    return {
        "mbit": mbit,
        **{key: statistics.fmean(values) / 1024 for key, values in lengths.items()},
        **{key: statistics.median(values) for key, values in found.items()},
        "same_class": sum(same) / len(same),
        "requests": len(same),
    }


def _post(connection: http.client.HTTPConnection, model: str, data: bytes, mbit: float) -> Any:
    """Post a picture at ``mbit`` Mbit/s at most (0: no limit) and return its best class."""
    body = _paced(data, mbit) if mbit else data
    connection.request("POST", f"/predictions/{model}?topk=1", body, {"Content-Length": str(len(data))})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != http.client.OK:
        raise CpuserveError(f"model {model} answered {answer.status}: {text[:300]!r}")
    document = json.loads(text)
    return document["predictions"][0]["class_id"]


def _paced(data: bytes, mbit: float) -> Iterator[bytes]:
    began = time.perf_counter()
    for start in range(0, len(data), _CHUNK):
        part = data[start : start + _CHUNK]
        due = began + 8 * (start + len(part)) / (
            1e6 * mbit
        )  # the line has taken a part when its last bit is through
        time.sleep(max(0.0, due - time.perf_counter()))
        yield part


if __name__ == "__main__":
    main()
