"""The access log: a line for each answer, in the form that log readers know, or as JSON."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from cpuserve.errors import UsageError
from cpuserve.protocols.call import Call

__all__ = ["AccessLog"]

_log = logging.getLogger("cpuserve.access")
_UNSAFE = {code: f"\\x{code:02x}" for code in (*range(32), 34, 92, *range(127, 256))}


class AccessLog:
    """Writes to a file that all workers append to; opened before the fork.

    A line is one write, so that lines of several workers do not mix. It has the client's address, the time,
    method and path with query, status, bytes of the body and milliseconds since the request was whole.

    Args:
        place: the file; ``-`` for standard output.
        style: ``text`` (the common log format and milliseconds) or ``json``.

    Raises:
        UsageError: the file cannot be opened.
    """

    def __init__(self, place: str, style: str) -> None:
        self._place = place
        self._lost = 0  # lines in a row that could not be written
        self._descriptor = self._open()
        self._line: Callable[[dict[str, Any]], str] = _json_line if style == "json" else _text_line

    def reopen(self) -> None:
        """Open the file anew after a log rotation; workers that are forked from now on write to it."""
        try:
            new = self._open()
        except UsageError as error:
            _log.error("the access log stays as it was: %s", error)
            return
        if self._place != "-":
            os.close(self._descriptor)
        self._descriptor = new

    def _open(self) -> int:
        if self._place == "-":
            return sys.stdout.fileno()
        try:
            return os.open(Path(self._place), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise UsageError(f"access_log {self._place} cannot be written: {error.strerror}") from error

    def write(self, call: Call, target: str, status: int, size: int) -> None:
        """Write the line of an answer; where that is impossible, the log says why, and how many were lost.

        Args:
            call: the request.
            target: its path and query, as sent.
            status: of the answer.
            size: bytes of the answer's body.
        """
        took_ns = time.perf_counter_ns() - call.arrived_ns if call.arrived_ns else 0
        facts = {
            "time": time.time(),
            "client": call.address or "-",
            "method": call.method,
            "target": target,
            "status": status,
            "bytes": size,
            "ms": round(took_ns / 1e6, 3),
        }
        try:
            os.write(self._descriptor, (self._line(facts) + "\n").encode())
        except OSError as error:  # the answer is sent, and the next request has nothing to do with it
            if not self._lost:
                _log.error("access_log %s cannot be written, lines are lost: %s", self._place, error.strerror)
            self._lost += 1
        else:
            if self._lost:
                _log.warning("access_log %s is written again; %d lines were lost", self._place, self._lost)
                self._lost = 0


def _text_line(facts: dict[str, Any]) -> str:
    target = facts["target"].translate(_UNSAFE)
    stamp = _common_time(int(facts["time"]))
    request = f'"{facts["method"]} {target}"'
    return f"{facts['client']} - - [{stamp}] {request} {facts['status']} {facts['bytes']} {facts['ms']}"


def _json_line(facts: dict[str, Any]) -> str:
    stamp = datetime.fromtimestamp(facts["time"], UTC).isoformat(timespec="milliseconds")
    return json.dumps({**facts, "time": stamp}, ensure_ascii=False)


@lru_cache(maxsize=2)
def _common_time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%d/%b/%Y:%H:%M:%S %z")
