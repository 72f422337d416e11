"""Measures whether memory grows over many good and bad requests.

Run as ``python -m benchmarks.soak --model-repository DIR --model NAME --pictures DIR --out FILE``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from benchmarks.fixtures.grpc_mix import grpc_mix, send_messages
from benchmarks.fixtures.request_mix import Seen, mix, send_all
from cpuserve.measuring.local_server import free_port, started_server
from cpuserve.measuring.results import write_result

__all__ = ["main", "soak"]

_SETTLE_S = 3.0
_LOOKS = 5
_MIB = 1 << 20


def soak(
    server_pid: int,
    port: int,
    model: str,
    pictures: Sequence[Path],
    bad: Sequence[Path],
    *,
    requests: int,
    warm_up: int,
    connections: int,
    grpc_port: int = 0,
    grpc_share: float = 0.0,
    grpc_input: str = "image",
) -> dict[str, Any]:
    """Send the mix to a running server on this machine.

    Args:
        server_pid: the process that started the workers.
        port: where it listens.
        model: takes pictures.
        pictures: good ones.
        bad: others.
        requests: sent between the two looks at memory.
        warm_up: sent before the first look.
        connections: at a time.
        grpc_port: where it answers gRPC.
        grpc_share: of the requests that come over gRPC, at the same time as the others.
        grpc_input: the name of the model's input.

    Returns:
        ``requests``, ``answers`` by kind and status, ``wrong`` answers, ``workers_kept`` (none died),
        ``before`` and ``after`` (RSS and USS of all workers, MiB), ``growth`` (as a share, by RSS and USS).
    """
    kinds = mix("127.0.0.1", port, model, pictures, bad)
    messages = grpc_mix(model, grpc_input, pictures, bad) if grpc_share else []

    def send(count: int, seed: int) -> Seen:
        over_grpc = round(count * grpc_share)
        with ThreadPoolExecutor(2) as pool:
            http = pool.submit(send_all, "127.0.0.1", port, kinds, count - over_grpc, connections, seed)
            address = f"127.0.0.1:{grpc_port}"
            grpc = pool.submit(send_messages, address, messages, over_grpc, connections, seed)
            one, other = http.result(), grpc.result()
        return Seen({**one.answers, **other.answers}, [*one.wrong, *other.wrong])

    send(warm_up, 1)
    workers = _workers(server_pid)
    before = _memory(workers)
    began = time.monotonic()
    seen = send(requests, 2)
    seconds = time.monotonic() - began
    kept = {worker.pid for worker in workers} == {worker.pid for worker in _workers(server_pid)}
    after = _memory(workers) if kept else before
    return {
        "requests": requests,
        "warm_up": warm_up,
        "connections": connections,
        "seconds": round(seconds, 1),
        "answers": {kind: dict(sorted(count.items())) for kind, count in sorted(seen.answers.items())},
        "wrong": seen.wrong,
        "workers": len(workers),
        "workers_kept": kept,
        "before": before,
        "after": after,
        "growth": {name: round(after[name] / before[name] - 1, 4) for name in before},
    }


def _workers(server_pid: int) -> list[psutil.Process]:
    return psutil.Process(server_pid).children()


def _memory(workers: Sequence[psutil.Process]) -> dict[str, float]:
    """MiB of all workers together: medians of a few looks, a while after the last request."""
    looks: dict[str, list[float]] = {"rss_mib": [], "uss_mib": []}
    for _ in range(_LOOKS):
        time.sleep(_SETTLE_S / _LOOKS)
        found = [worker.memory_full_info() for worker in workers]
        looks["rss_mib"].append(sum(memory.rss for memory in found) / _MIB)
        looks["uss_mib"].append(sum(memory.uss for memory in found) / _MIB)
    return {name: round(statistics.median(values), 2) for name, values in looks.items()}


def main() -> None:
    """Start a server, send the mix, write the result; exits with 1 when memory grew by more than allowed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-repository", type=Path, default=Path("ir_models"))
    parser.add_argument("--model", default="digits")
    parser.add_argument("--pictures", type=Path, required=True, help="directory; its bad/ holds the bad ones")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--warm-up", type=int, default=2_000)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--grpc-share", type=float, default=0.0, help="of the requests that come over gRPC")
    parser.add_argument("--grpc-input", default="image", help="the model's input, for gRPC")
    parser.add_argument("--most", type=float, default=0.05, help="growth that is allowed, as a share")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    pictures = sorted(file for file in given.pictures.iterdir() if file.is_file())
    bad = sorted((given.pictures / "bad").iterdir())
    with tempfile.TemporaryDirectory(prefix="cpuserve-soak-") as folder:
        log = Path(folder) / "log"
        words = ["--model-repository", str(given.model_repository)]
        grpc_port = free_port() if given.grpc_share else 0
        words += ["--grpc-port", str(grpc_port)] if grpc_port else []
        with started_server(*words, log=log) as local:
            found = soak(
                local.pid,
                local.port,
                given.model,
                pictures,
                bad,
                requests=given.requests,
                warm_up=given.warm_up,
                connections=given.connections,
                grpc_port=grpc_port,
                grpc_share=given.grpc_share,
                grpc_input=given.grpc_input,
            )
        found["tracebacks"] = log.read_text(errors="replace").count("Traceback")
    passed = (
        max(found["growth"].values()) <= given.most
        and found["workers_kept"]
        and not found["wrong"]
        and not found["tracebacks"]
    )
    found["passed"] = passed
    sys.stdout.write(
        f"{found['before']} -> {found['after']}, growth {found['growth']}, wrong {found['wrong']}\n"
    )
    if given.out:
        write_result(given.out, ["python", "-m", "benchmarks.soak", *sys.argv[1:]], found)
    sys.exit(not passed)


if __name__ == "__main__":
    main()
