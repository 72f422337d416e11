"""A point behind HTTP: a server started for it, loaded by clients; it does not say when it is stable."""

from __future__ import annotations

import http.client
import json
import re
import time
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

_READY_S = 120.0
_LOADED = re.compile(r"model (\S+) version \d+ ready after \S+ s: (.*), batches (\[.*\])")


class HttpTrial:
    """A running server with a point's settings.

    Args:
        local: the server.
        target: its models, in turn.
        subject: what it was started with.
        load: clients.
    """

    def __init__(self, local: LocalServer, target: Target, subject: TrialSetup, load: Load) -> None:
        self._local = local
        self._target = target
        self._subject = subject
        self._load = load

    def window(self, number: int, seconds: float) -> LoadWindow:
        """Load it for so many seconds.

        Raises:
            CpuserveError: it is gone.
        """
        return measure_window(self._target, self._subject.files, self._load, seconds=seconds, seed=number)

    def facts(self) -> dict[str, Any]:
        """What is read back from the server, its processes and its log."""
        report = self.placement()
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
            "properties": self._properties(),
            "connections": self._load.connections,
            **mapped_libraries(worker["pid"] for worker in report["workers"] if worker["pid"]),
        }

    def placement(self) -> dict[str, Any]:
        """The server's own report, ``/v2/placement``.

        Raises:
            CpuserveError: it gives none.
        """
        connection = http.client.HTTPConnection(self._target.host, self._target.port, timeout=60)
        try:
            connection.request("GET", "/v2/placement")
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise CpuserveError(f"{self._local.url} does not answer: {error}") from None
        finally:
            connection.close()
        if answer.status != 200:
            raise CpuserveError(f"{self._local.url}/v2/placement answered {answer.status}")
        report: dict[str, Any] = json.loads(body)
        return report

    def wait_ready(self) -> None:
        """Wait until every seat's worker is ready: a window with some of them loading says nothing.

        Raises:
            CpuserveError: one is not after two minutes.
        """
        deadline = time.monotonic() + _READY_S
        while True:
            states = {worker["state"] for worker in self.placement()["workers"]}
            if states == {"ready"}:
                return
            if time.monotonic() > deadline:
                raise CpuserveError(f"workers are still {', '.join(sorted(states))} after {_READY_S:.0f} s")
            time.sleep(0.1)

    def _properties(self) -> dict[str, dict[str, str]]:
        """What each model's worker said of OpenVINO's properties, and its batches."""
        found = {}
        for name, words, batches in _LOADED.findall(self._local.log.read_text(errors="replace")):
            found[name] = dict(word.split("=", 1) for word in words.split(", ")) | {"batches": batches}
        return found


@contextmanager
def http_trial(subject: TrialSetup, connections: int) -> Iterator[HttpTrial]:
    """Start a server with a point's settings; it ends with the context.

    Raises:
        CpuserveError: it does not start, or refuses the picture.
    """
    said = {"CPUSERVE_LOG_FORMAT": "text", "CPUSERVE_LOG_LEVEL": "info"}
    environ = subject.environment(with_settings=True) | said
    with local_server("", {}, None, environ) as local:
        targets = {model: target_at(local.url, model, "predictions") for model in subject.models}
        first, *then = (targets[model].path for model in subject.turns)
        target = replace(targets[subject.turns[0]], path=first, then=tuple(then))
        running = HttpTrial(local, target, subject, Load(connections=connections))
        running.wait_ready()
        for one in targets.values():
            ask_once(one, subject.files[0])
        yield running
