"""Measures what a server still answers in time when three times its capacity arrives.

Run as ``python -m benchmarks.overload --image FILE [--model NAME] [--model-repository DIR]``. It also tells
the server's CPU time for each answer in time, which holds that of all refusals.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cpuserve.measuring.load_window import tree_cpu_s
from cpuserve.measuring.local_server import LocalServer, free_port, started_server
from cpuserve.measuring.results import write_result

__all__ = ["main"]


def main() -> None:
    """Measure capacity and overload in turn, several rounds over, and print or write the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-repository", type=Path, default=Path("ir_models"))
    parser.add_argument("--model", default="digits")
    parser.add_argument("--image", type=Path, default=Path("docs/seven.png"))
    parser.add_argument("--times", type=float, default=3.0, help="offered rate over capacity")
    parser.add_argument("--timeout-ms", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--grpc-share", type=float, default=0.0, help="of the load that comes over gRPC")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    words = ["--model-repository", str(given.model_repository)]
    grpc_port = free_port() if given.grpc_share else 0
    words += ["--grpc-port", str(grpc_port)] if grpc_port else []
    with tempfile.TemporaryDirectory(prefix="cpuserve-bench-") as folder, started_server(*words) as local:
        message = Path(folder) / "message"
        message.write_bytes(_message(given, local) if grpc_port else b"")
        ports = (local.port, grpc_port)
        rounds = [_round(given, local.pid, ports, message) for _ in range(given.rounds)]
    medians = {key: statistics.median(row[key] for row in rounds) for key in rounds[0] if key != "statuses"}
    table = Table("", "median", *(f"round {number + 1}" for number in range(given.rounds)))
    for key, value in medians.items():
        table.add_row(key, f"{value:.3f}", *(f"{row[key]:.3f}" for row in rounds))
    Console().print(table)
    if given.out:
        words = ["python", "-m", "benchmarks.overload", *sys.argv[1:]]
        write_result(given.out, words, {"medians": medians, "rounds": rounds})


def _message(given: argparse.Namespace, local: LocalServer) -> bytes:
    from cpuserve.grpc.messages import message_class  # noqa: PLC0415  # needs an extra

    picture = given.image.read_bytes()
    _, metadata = local.get_json(f"/v2/models/{given.model}")
    entry = {
        "name": metadata["inputs"][0]["name"],
        "datatype": "BYTES",
        "shape": [1],
        "contents": {"bytes_contents": [picture]},
    }
    content: bytes = message_class("inference.ModelInferRequest")(
        model_name=given.model, inputs=[entry]
    ).SerializeToString()
    return content


def _round(given: argparse.Namespace, pid: int, ports: tuple[int, int], message: Path) -> dict[str, Any]:
    share = given.grpc_share
    cpu_s = [tree_cpu_s(pid)]
    closed = _load(given, ports, message, {False: ("--connections", "16"), True: ("--channels", "16")})
    cpu_s.append(tree_cpu_s(pid))
    statuses: Counter[str] = Counter()
    for one in closed:
        statuses.update(one["statuses"])
    if statuses.keys() - {"200", "OK"}:
        raise ValueError(f"the capacity is that of right answers; there were {dict(statuses)}")
    capacity = sum(one["requests"] / one["seconds"] for one in closed)
    rate = given.times * capacity
    opened = _load(
        *(given, ports, message),
        {
            over_grpc: ("--rate", str(part * rate), "--timeout-ms", str(given.timeout_ms))
            for over_grpc, part in ((False, 1 - share), (True, share))
        },
    )
    cpu_s.append(tree_cpu_s(pid))
    latencies = sorted(latency for one in opened for latency in one["latencies_ms"])
    in_time = sum(one["in_time"] for one in opened)
    statuses.clear()
    for one in opened:
        statuses.update(one["statuses"])
    goodput = sum(one["in_time"] / one["seconds"] for one in opened)
    return {
        "capacity_per_s": capacity,
        "offered_per_s": sum(one["offered_per_s"] for one in opened),
        "goodput_per_s": goodput,
        "goodput_share": goodput / capacity,
        "cpu_ms_an_answer_at_capacity": 1000 * (cpu_s[1] - cpu_s[0]) / sum(one["requests"] for one in closed),
        "cpu_ms_an_answer_in_time": 1000 * (cpu_s[2] - cpu_s[1]) / in_time,
        "accepted_p50_ms": latencies[len(latencies) // 2],
        "accepted_p99_ms": latencies[len(latencies) * 99 // 100],
        "client_cores": sum(one["client_cpu_s"] / one["seconds"] for one in opened),
        "statuses": dict(statuses),
    }


def _load(
    given: argparse.Namespace, ports: tuple[int, int], message: Path, words: Mapping[bool, Sequence[str]]
) -> list[dict[str, Any]]:
    """The figures of clients over HTTP, and over gRPC at the same time where a share of the load is.

    Args:
        given: the command line.
        ports: of HTTP and of gRPC.
        message: the file of a message.
        words: further options of the client, by whether it is that of gRPC.
    """
    http = ("cpuserve.measuring.http_load", str(ports[0]), f"/predictions/{given.model}", str(given.image))
    commands = [(*http, *words[False])] if given.grpc_share < 1 else []
    if given.grpc_share:
        commands.append(("benchmarks.grpc_load", f"127.0.0.1:{ports[1]}", str(message), *words[True]))
    running = [
        subprocess.Popen(
            (sys.executable, "-m", *command, "--seconds", str(given.seconds)), stdout=subprocess.PIPE
        )
        for command in commands
    ]
    said = [process.communicate()[0] for process in running]
    for process in running:
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, process.args)
    return [json.loads(one) for one in said]


if __name__ == "__main__":
    main()
