"""gRPC clients in one thread: a closed loop (channels) or an open loop (arrivals a second).

Run as ``python -m benchmarks.grpc_load HOST:PORT MESSAGE [--channels N | --rate R --timeout-ms T]``, where
MESSAGE is the file of a ModelInferRequest. It prints what `cpuserve.measuring.http_load` prints.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from grpc import aio

__all__ = ["OPTIONS", "SERVICE", "main"]

SERVICE = "inference.GRPCInferenceService"
_WAIT_S = 30.0
OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own for each channel
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]
"""Of a channel: gRPC's own limits of messages are those of the server."""

_Ask = Callable[[float], Any]


class _Seen:
    """Counts answers by code, and the latencies of those that are right."""

    def __init__(self) -> None:
        self.codes: Counter[str] = Counter()
        self.latencies_ms: list[float] = []

    async def ask(self, ask: _Ask, since: float, timeout_s: float) -> None:
        """Ask once; latency counts from ``since``."""
        try:
            await ask(timeout_s)
        except grpc.RpcError as error:
            self.codes[error.code().name] += 1
        else:
            self.codes["OK"] += 1
            self.latencies_ms.append(1000 * (time.perf_counter() - since))


async def _closed_loop(asks: list[_Ask], seconds: float, seen: _Seen) -> int:
    until = time.perf_counter() + seconds

    async def again(ask: _Ask) -> int:
        count = 0
        while (now := time.perf_counter()) < until:
            await seen.ask(ask, now, _WAIT_S)
            count += 1
        return count

    return sum(await asyncio.gather(*map(again, asks)))


async def _open_loop(asks: list[_Ask], given: argparse.Namespace, seen: _Seen) -> int:
    dice, began = random.Random(given.seed), time.perf_counter()  # noqa: S311  # no secret
    due = began
    tasks: list[asyncio.Task[None]] = []
    while due < began + given.seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        ask = asks[len(tasks) % len(asks)]
        left_s = due + given.timeout_ms / 1000 - time.perf_counter()
        tasks.append(asyncio.create_task(seen.ask(ask, due, max(0.001, left_s))))
        due += dice.expovariate(given.rate)
    await asyncio.gather(*tasks)
    return len(tasks)


async def _run(given: argparse.Namespace) -> dict[str, Any]:
    message = given.message.read_bytes()
    channels = [aio.insecure_channel(given.address, OPTIONS) for _ in range(given.channels)]
    asks = [_asking(channel.unary_unary(given.method), message) for channel in channels]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    seen, cpu_s, began = _Seen(), _cpu_s(), time.perf_counter()
    count = await (_open_loop(asks, given, seen) if given.rate else _closed_loop(asks, given.seconds, seen))
    took_s = time.perf_counter() - began
    for channel in channels:
        await channel.close()
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


def _asking(call: Any, message: bytes) -> _Ask:
    return lambda timeout_s: call(message, timeout=timeout_s)


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
    sys.stdout.write(json.dumps(asyncio.run(_run(given))) + "\n")


if __name__ == "__main__":
    main()
