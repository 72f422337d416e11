"""Runs a trial behind HTTP: starts a server with a point's settings and loads it with clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from cpuserve.errors import CpuserveError
from cpuserve.measuring.load_window import Load, LoadWindow, Target, measure_window
from cpuserve.measuring.local_server import LocalServer, local_server
from cpuserve.measuring.target import ask_once, target_at
from cpuserve.tune.mapped_libraries import mapped_libraries
from cpuserve.tune.trial_setup import TrialSetup

__all__ = ["HttpTrial", "http_trial"]


class HttpTrial:
    """A running server with a point's settings.

    Args:
        server: the server.
        target: its models, in turn.
        setup: what it was started with.
        load: clients.
    """

    def __init__(self, server: LocalServer, target: Target, setup: TrialSetup, load: Load) -> None:
        self._server = server
        self._target = target
        self._setup = setup
        self._load = load

    def window(self, number: int, seconds: float) -> LoadWindow:
        """Load the server for so many seconds.

        Raises:
            CpuserveError: it is gone.
        """
        return measure_window(self._target, self._setup.files, self._load, seconds=seconds, seed=number)

    def facts(self) -> dict[str, Any]:
        """What the server and the kernel say is in force.

        Raises:
            CpuserveError: the server does not answer.
        """
        report = self._asked("/v2/placement")
        findings = [one for one in report["findings"] if one["level"] != "green"]
        return {
            "workers": len(report["seats"]),
            "placement": {
                "level": report["level"],
                "seats": [
                    {name: seat[name] for name in ("cpus", "node", "threads")} for seat in report["seats"]
                ],
                "findings": [f"{one['section']}: {one['text']}" for one in findings],
            },
            "properties": {name: self._properties(name) for name in self._setup.models},
            "connections": self._load.connections,
            **mapped_libraries(worker["pid"] for worker in report["workers"] if worker["pid"]),
        }

    def _properties(self, model: str) -> dict[str, str]:
        """OpenVINO's properties in force, and the batch sizes that are compiled."""
        config = self._asked(f"/v2/models/{model}/config")
        properties = {name: value["string_value"] for name, value in config["parameters"].items()}
        del properties["sha256"]
        return properties | {"batches": str(config["dynamic_batching"]["preferred_batch_size"])}

    def _asked(self, path: str) -> dict[str, Any]:
        status, answer = self._server.get_json(path)
        if status != 200:
            raise CpuserveError(f"{self._server.url}{path} answered {status}: {answer}")
        return dict(answer)


@contextmanager
def http_trial(setup: TrialSetup, connections: int) -> Iterator[HttpTrial]:
    """Start a server with a point's settings; it ends with the context.

    Raises:
        CpuserveError: it does not start, or refuses the picture.
    """
    with local_server("", {}, None, setup.environment(with_settings=True)) as server:
        targets = {model: target_at(server.url, model, "predictions") for model in setup.models}
        first, *then = (targets[model].path for model in setup.turns)
        target = replace(targets[setup.turns[0]], path=first, then=tuple(then))
        for one in targets.values():
            ask_once(one, setup.files[0])
        yield HttpTrial(server, target, setup, Load(connections=connections))
