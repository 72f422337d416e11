"""Routes for those who run the server: log and trace settings, traces, placement."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from cpuserve.errors import RequestError, UnknownTrace
from cpuserve.machine.diagnosis import diagnose, throttling_sample
from cpuserve.machine.files import read_text
from cpuserve.protocols.call import Call, Reply, json_reply
from cpuserve.serving.find_servers import find_servers, server_status
from cpuserve.serving.log import LogSwitches
from cpuserve.serving.stages import STAGE_NAMES
from cpuserve.serving.trace_ring import TraceRecord, TraceRing
from cpuserve.serving.worker_table import WorkerTable

__all__ = ["Admin"]

_FRESH_S = 0.5
_LEVELS = {"OFF": False, "TIMESTAMPS": True}
_STACK_RATES = range(201)
_FIXED_TRACE = {
    "trace_rate": "1",
    "trace_count": "-1",
    "log_frequency": "0",
    "trace_file": "",
    "trace_mode": "triton",
}


class Admin:
    """The routes about the server itself.

    Args:
        worker_table: the server's; None for an application that runs outside of one.
        switches: the server's log.
        trace_ring: the server's traced requests; None for an application that runs outside of one.
    """

    def __init__(
        self, worker_table: WorkerTable | None, switches: LogSwitches, trace_ring: TraceRing | None = None
    ) -> None:
        self._switches = switches
        self._trace_ring = trace_ring or TraceRing(rows=1)
        self._worker_table = worker_table
        self._lock = threading.Lock()
        self._before = (
            throttling_sample(server_status(worker_table, {})) if worker_table is not None else None
        )
        self._answer: dict[str, Any] | None = None
        self._made = 0.0

    def logging(self, call: Call) -> Reply:
        """``GET`` and ``POST /v2/logging``: the log settings of all workers, once the body has changed them.

        Raises:
            RequestError: the body is no JSON object, or holds what cannot be set.
        """
        if call.method == "POST":
            try:
                self._switches.change(call.document())
            except ValueError as error:
                raise RequestError(str(error)) from None
        return json_reply(self._switches.read())

    def trace_setting(self, call: Call) -> Reply:
        """``GET`` and ``POST /v2/trace/setting``: whether all workers trace, once the body has changed it.

        The settings are those of Triton's trace extension, and ``stack_rate``: how many times a second each
        worker samples its Python stacks, 0 for never.

        Raises:
            RequestError: the body is no JSON object, or holds what cannot be set.
        """
        trace_ring = self._trace_ring
        if call.method == "POST":
            tracing, rate = trace_ring.tracing, trace_ring.stack_rate
            for name, value in call.document().items():
                match name, value:  # null is what Triton's clients clear a setting by
                    case "trace_level", None:
                        tracing = False
                    case "stack_rate", None:
                        rate = 0
                    case "trace_level", [str(level)] if level in _LEVELS:
                        tracing = _LEVELS[level]
                    case "stack_rate", int() if not isinstance(value, bool) and value in _STACK_RATES:
                        rate = value
                    case _ if name in _FIXED_TRACE and value in (None, _FIXED_TRACE[name]):
                        pass
                    case _:
                        raise RequestError(
                            f"{name[:80]!r} cannot be set so: trace_level is "
                            f"{' or '.join(json.dumps([level]) for level in _LEVELS)}, "
                            f"stack_rate 0 to {max(_STACK_RATES)}, and the rest is as GET shows it"
                        )
            trace_ring.tracing, trace_ring.stack_rate = tracing, rate
        level = next(level for level, on in _LEVELS.items() if on == trace_ring.tracing)
        return json_reply({"trace_level": [level], **_FIXED_TRACE, "stack_rate": trace_ring.stack_rate})

    def traces(self, _call: Call) -> Reply:
        """``GET /v2/trace/requests``: the traced requests of all workers that are still in memory."""
        trace_ring = self._trace_ring
        rows = [record for row in range(len(trace_ring.heads())) for record in trace_ring.records(row, 0)]
        return json_reply({"requests": [_trace(record) for record in rows]})

    def trace(self, _call: Call, name: str) -> Reply:
        """``GET /v2/trace/requests/NAME``: one trace, by the name in its answer's ``X-Cpuserve-Trace``.

        Raises:
            UnknownTrace: it is not there, or not any more.
        """
        trace_ring = self._trace_ring
        for row in range(len(trace_ring.heads())):
            for record in trace_ring.records(row, 0):
                if record.name == name:
                    return json_reply(_trace(record))
        raise UnknownTrace(
            f"there is no trace {name[:40]!r}: send a request with X-Cpuserve-Trace: 1 and take the name "
            "from that header of its answer; of each worker the latest few thousand are kept"
        )

    def placement(self, _call: Call) -> Reply:
        """``GET /v2/placement``: planned and actual seats of all workers, as by `cpuserve doctor --json`.

        An answer is reused for half a second, since finding the node of every page costs the worker time.
        Throttling is counted since the answer before.
        """
        with self._lock:
            now = time.monotonic()
            if self._answer is None or now - self._made >= _FRESH_S:
                self._answer = self._diagnose()
                self._made = time.monotonic()
            return json_reply(self._answer)

    def _diagnose(self) -> dict[str, Any]:
        if self._worker_table is None:
            return diagnose(None)
        arbiter = os.getppid()
        children = read_text(Path(f"/proc/{arbiter}/task/{arbiter}/children")) or ""
        who = server_status(self._worker_table, {pid: pid for pid in (arbiter, *map(int, children.split()))})
        after = throttling_sample(who)
        answer = diagnose(who, self._before, neighbours=[one for one in find_servers() if one.pid != who.pid])
        self._before = after
        return answer


def _trace(record: TraceRecord) -> dict[str, Any]:
    return {
        "id": record.name,
        "pid": record.pid,
        "tid": record.tid,
        "status": record.status,
        "arrived_ns": record.entries[0][1],
        "ended_ns": record.end_ns,
        "stages": [[STAGE_NAMES[stage & 0xFF], begin, end] for stage, begin, end in record.entries],
    }
