"""gRPC clients in one thread: a closed loop (channels) or an open loop (arrivals a second).

Run as ``python -m benchmarks.grpc_load HOST:PORT MESSAGE [--channels N | --rate R --timeout-ms T]``, where
MESSAGE is the file of a ModelInferRequest. It prints what `cpuserve.measuring.http_load` prints.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.grpc_channels import Channels

if TYPE_CHECKING:
    from benchmarks.http2_client import Call

__all__ = ["OPTIONS", "SERVICE", "main"]

SERVICE = "inference.GRPCInferenceService"
_WAIT_S = 30.0
OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own for each channel
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]
"""Of a channel of grpcio, for other clients: gRPC's own limits of messages are those of the server."""


class _Seen:
    """Counts answers by code, and the latencies of those that are right."""

    def __init__(self) -> None:
        self.codes: Counter[str] = Counter()
        self.latencies_ms: list[float] = []
        self.ended = 0

    def count(self, calls: list[Call]) -> None:
        """Count calls that have ended."""
        self.ended += len(calls)
        for call in calls:
            self.codes[call.code] += 1
            if call.code == "OK":
                self.latencies_ms.append(1000 * (call.ended - call.since))


def _closed_loop(channels: Channels, seconds: float, seen: _Seen) -> int:
    now = time.perf_counter()
    until, count = now + seconds, 0
    free = list(range(len(channels)))
    while True:
        for channel in free if now < until else ():
            now = time.perf_counter()
            channels.ask(channel, now, _WAIT_S)
            count += 1
        if seen.ended == count:
            return count
        ended = channels.wait(_WAIT_S)
        seen.count(ended)
        free = [call.channel for call in ended]
        now = time.perf_counter()


def _open_loop(channels: Channels, given: argparse.Namespace, seen: _Seen) -> int:
    dice, began = random.Random(given.seed), time.perf_counter()  # noqa: S311  # no secret
    due, end, count = began, began + given.seconds, 0
    while due < end or seen.ended < count:
        now = time.perf_counter()
        while due < end and due <= now:
            left_s = due + given.timeout_ms / 1000 - time.perf_counter()
            channels.ask(count % len(channels), due, left_s)
            count += 1
            due += dice.expovariate(given.rate)
        seen.count(channels.wait(due - time.perf_counter() if due < end else _WAIT_S))
    return count


def _run(given: argparse.Namespace) -> dict[str, Any]:
    message = given.message.read_bytes()
    with Channels(given.address, given.method, message, given.channels, _WAIT_S) as channels:
        seen, cpu_s, began = _Seen(), _cpu_s(), time.perf_counter()
        if given.rate:
            count = _open_loop(channels, given, seen)
        else:
            count = _closed_loop(channels, given.seconds, seen)
        took_s = time.perf_counter() - began
    return {
        "requests": count,
        "seconds": given.seconds if given.rate else took_s,
        "took_s": took_s,
        "offered_per_s": count / given.seconds,
        "in_time": len(seen.latencies_ms),
        "statuses": dict(seen.codes),
        "latencies_ms": sorted(seen.latencies_ms),
        "client_cpu_s": _cpu_s() - cpu_s,
    }


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Load a server and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("message", type=Path)
    parser.add_argument("--method", default=f"/{SERVICE}/ModelInfer")
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rate", type=float, help="open loop: arrivals a second")
    parser.add_argument("--timeout-ms", type=float, default=1000 * _WAIT_S, help="open loop: of each request")
    parser.add_argument("--seed", type=int, default=0, help="open loop: of the arrivals")
    given = parser.parse_args()
    sys.stdout.write(json.dumps(_run(given)) + "\n")


if __name__ == "__main__":
    gc.disable()  # nothing here makes cycles, and a collection would be part of a latency
    main()
