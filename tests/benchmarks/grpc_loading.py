"""The client over gRPC as its command line starts it, inside of a test."""

from __future__ import annotations

import json
import random
import sys
import time

from benchmarks import grpc_load

_KEYS = {
    *("requests", "seconds", "took_s", "offered_per_s", "in_time", "statuses", "latencies_ms"),
    "client_cpu_s",
}


def loader(tmp_path, monkeypatch, capsys):
    """The client as its command line starts it."""

    def run(address, *words, message=bytes(300), within_s=10.0):
        (tmp_path / "message").write_bytes(message)
        monkeypatch.setattr(sys, "argv", ["grpc_load", address, str(tmp_path / "message"), *words])
        began = time.monotonic()
        grpc_load.main()
        assert time.monotonic() - began < within_s
        found = json.loads(capsys.readouterr().out)
        assert found.keys() == _KEYS
        assert found["requests"] == sum(found["statuses"].values())
        assert found["in_time"] == len(found["latencies_ms"]) == found["statuses"].get("OK", 0)
        assert found["latencies_ms"] == sorted(found["latencies_ms"])
        return found

    return run


def seconds_of(requests, rate):
    """How long it takes until so many requests are due, with the seed that is the default."""
    dice = random.Random(0)  # noqa: S311  # no secret
    return sum(dice.expovariate(rate) for _ in range(requests - 1)) + 1e-6
