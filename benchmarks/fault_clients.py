"""Clients that ask a server while faults happen to it, and count what they saw."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np

from benchmarks.fixtures.weights_model import INPUTS, OUTPUTS

__all__ = ["Client", "Tally", "answers"]

_PATIENCE_S = 30.0  # a request that takes longer hangs
_PAUSE_S = 0.01
_MOST_WRONG = 50  # of them are told
_QUEUE_FULL = b"requests are waiting"  # of every refusal of the queue


class Tally:
    """Counts what happened; all threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[str, Counter[str]] = {}
        self._faults: Counter[str] = Counter()
        self._wrong: list[str] = []
        self.wrong_count = 0
        self._resets = 0
        self._slowest_s = 0.0

    def count(self, kind: str, status: int, seconds: float = 0.0, body: bytes = b"") -> None:
        """Count an answer; one of 5xx is wrong, unless it says that more requests wait than may."""
        refused = status == http.HTTPStatus.SERVICE_UNAVAILABLE and _QUEUE_FULL in body
        with self._lock:
            self._answers.setdefault(kind, Counter())["queue full" if refused else str(status)] += 1
            self._slowest_s = max(self._slowest_s, seconds)
        if status >= 500 and not refused:
            self.went_wrong(f"{kind}: {status} {body[:200].decode(errors='replace')}")

    def done(self, fault: str) -> None:
        """Count a fault that was made."""
        with self._lock:
            self._faults[fault] += 1

    def reset(self) -> None:
        """Count a connection that ended without an answer."""
        with self._lock:
            self._resets += 1

    def went_wrong(self, what: str) -> None:
        """Keep what should not have happened."""
        with self._lock:
            self.wrong_count += 1
            if len(self._wrong) < _MOST_WRONG:
                self._wrong.append(what)

    def figures(self) -> dict[str, Any]:
        """All of it, fit for JSON."""
        with self._lock:
            return {
                "answers": {
                    kind: dict(sorted(count.items())) for kind, count in sorted(self._answers.items())
                },
                "faults": dict(self._faults),
                "wrong": list(self._wrong),
                "resets": self._resets,
                "slowest_s": round(self._slowest_s, 3),
            }


class Client:
    """Asks ``digits`` for a picture and ``weights`` for a tensor by turns, on a connection that it keeps.

    Args:
        port: of the server.
        picture: of a seven.
        tally: takes what it saw.
        number: of the client; odd ones begin with the tensor.
    """

    def __init__(self, port: int, picture: bytes, tally: Tally, number: int) -> None:
        self._port = port
        self._picture = picture
        self._tally = tally
        self._turn = number
        tensor = np.ones((1, INPUTS), np.float32).tobytes()
        head = json.dumps(
            {
                "inputs": [
                    {
                        "name": "x",
                        "datatype": "FP32",
                        "shape": [1, INPUTS],
                        "parameters": {"binary_data_size": len(tensor)},
                    }
                ],
                "outputs": [{"name": "y", "parameters": {"binary_data": False}}],
            }
        ).encode()
        self._tensor = head + tensor
        self._headers = {"Inference-Header-Content-Length": str(len(head))}

    def ask(self, until: threading.Event) -> None:
        """Ask until told to stop."""
        self._ask(until, self._connection, self._once)

    def _ask(
        self,
        until: threading.Event,
        connect: Callable[[], Any],
        once: Callable[[Any, str], tuple[int, bytes]],
    ) -> None:
        connection = connect()
        while not until.wait(_PAUSE_S):
            self._turn += 1
            kind = "tensor" if self._turn % 2 else "picture"
            began = time.perf_counter()
            try:
                status, body = once(connection, kind)
            except TimeoutError:
                self._tally.went_wrong(f"{kind}: no answer within {_PATIENCE_S:g} s")
            except (OSError, http.client.HTTPException):
                self._tally.reset()
            else:
                self._tally.count(kind, status, time.perf_counter() - began, body)
                if status == http.client.OK and (wrong := _wrong(kind, json.loads(body))):
                    self._tally.went_wrong(wrong)
                continue
            connection.close()
            connection = connect()
        connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=_PATIENCE_S)

    def _once(self, connection: http.client.HTTPConnection, kind: str) -> tuple[int, bytes]:
        if kind == "tensor":
            connection.request("POST", "/v2/models/weights/infer", self._tensor, self._headers)
        else:
            connection.request("POST", "/predictions/digits", self._picture)
        response = connection.getresponse()
        return response.status, response.read()


def _wrong(kind: str, document: dict[str, Any]) -> str:
    """What is wrong with an answer; nothing for a seven, and for sums by the same weight all over."""
    if kind == "picture":
        found = document["predictions"][0]["label"]
        return "" if found == "7" else f"picture: {found}"
    data = document["outputs"][0]["data"]
    whole = len(data) == OUTPUTS and set(data) in ({float(INPUTS)}, {2.0 * INPUTS})
    return "" if whole else f"tensor: {len(data)} values of {sorted(set(data))[:5]}"


def answers(port: int, method: str, path: str, body: bytes) -> tuple[int, Any]:
    """Status and JSON of one answer on a connection of its own; 0 where the connection ended without one."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)) as connection:
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")
        except (ConnectionError, http.client.HTTPException):
            return 0, None
