"""Runs MLPerf LoadGen as the client of a server. What comes out is not an MLPerf result."""

from __future__ import annotations

import http.client
import queue
import re
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpuserve.errors import CpuserveError, MissingExtra
from cpuserve.measuring.load_window import Target, tree_cpu_s

__all__ = ["parse_summary", "run_scenario"]

_NAMES = {
    "singlestream": "SingleStream",
    "multistream": "MultiStream",
    "server": "Server",
    "offline": "Offline",
}
_SAMPLES_PER_QUERY = 8
_CLIENTS = {"singlestream": 1, "multistream": _SAMPLES_PER_QUERY, "server": 32, "offline": 32}
_TIMEOUT_S = 60


def run_scenario(
    target: Target,
    images: Sequence[Path],
    scenario: str,
    *,
    qps: float,
    latency_ms: float,
    seconds: float,
) -> dict[str, Any]:
    """Run one scenario of LoadGen in performance mode, over HTTP.

    The scenarios are those of Reddi et al., "MLPerf Inference Benchmark" (2020), table III. The run lasts far
    shorter than the rules ask for, and LoadGen judges it by its own: at a percentile of 99 it wants some 460
    queries before it calls a run valid.

    Args:
        target: the server.
        images: pictures, posted in turn.
        scenario: ``singlestream``, ``multistream``, ``server`` or ``offline``.
        qps: arrivals a second (server); samples a second that are expected (offline).
        latency_ms: the latency limit (server).
        seconds: least duration.

    Returns:
        ``client``, ``scenario``, ``result`` ("VALID" or "INVALID"), ``reasons``, ``summary`` (LoadGen's own
        figures by name), ``errors`` by status, ``requests``, ``cpu_ms`` of the server a request or None.

    Raises:
        MissingExtra: LoadGen is not installed.
    """
    try:
        import mlperf_loadgen as lg  # noqa: PLC0415  # an extra
    except ImportError:
        raise MissingExtra("--scenario needs MLPerf LoadGen", "bench") from None
    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, _NAMES[scenario])
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms = int(1000 * seconds)
    settings.min_query_count = 1
    settings.server_target_qps = settings.offline_expected_qps = qps
    settings.server_target_latency_ns = int(1e6 * latency_ms)
    settings.multi_stream_samples_per_query = _SAMPLES_PER_QUERY
    clients = _Clients(target, images, lg, _CLIENTS[scenario])
    before = None if target.pid is None else tree_cpu_s(target.pid)
    with tempfile.TemporaryDirectory(prefix="cpuserve-loadgen-") as folder:
        logs = lg.LogSettings()
        logs.log_output = lg.LogOutputSettings()
        logs.log_output.outdir = folder
        logs.log_output.copy_summary_to_stdout = False
        sut = lg.ConstructSUT(clients.issue, clients.flush)
        samples = lg.ConstructQSL(len(images), len(images), clients.ignore, clients.ignore)
        try:
            lg.StartTestWithLogSettings(sut, samples, settings, logs, "")
        finally:
            lg.DestroyQSL(samples)
            lg.DestroySUT(sut)
            clients.stop()
        text = (Path(folder) / "mlperf_log_summary.txt").read_text()
    spent = None if target.pid is None or before is None else tree_cpu_s(target.pid) - before
    done = clients.statuses.total()
    errors = {status: count for status, count in clients.statuses.items() if status != "200"}
    return {
        "client": "LoadGen based, not an MLPerf result",
        "scenario": scenario,
        **parse_summary(text),
        "requests": done,
        "errors": errors,
        "cpu_ms": 1000 * spent / done if spent is not None and done else None,
    }


def parse_summary(text: str) -> dict[str, Any]:
    """LoadGen's ``mlperf_log_summary.txt``: ``result``, ``reasons`` and ``summary``.

    Raises:
        CpuserveError: it says neither valid nor invalid: the run was broken off.
    """
    head = text.split("Test Parameters Used", maxsplit=1)[0]
    verdict = re.search(r"Result is : (\w+)", head)
    if verdict is None:
        raise CpuserveError("LoadGen broke the run off without a verdict")
    pairs = re.findall(r"^ *([^:=*\n]+?) *: *(\S.*?) *$", head, re.MULTILINE)
    summary = {name: value for name, value in pairs if re.fullmatch(r"[\d.e+-]+", value)}
    reasons = [
        line.strip() for line in head.splitlines() if line.lstrip().startswith(("*", "NOT", "Recommend"))
    ]
    return {
        "result": verdict[1],
        "reasons": reasons,
        "summary": {name: float(value) for name, value in summary.items()},
    }


class _Clients:
    """Threads with a connection each that post what LoadGen asks for."""

    def __init__(self, target: Target, images: Sequence[Path], loadgen: Any, count: int) -> None:
        self._target = target
        self._bodies = [image.read_bytes() for image in images]
        self._loadgen = loadgen
        self._waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self.statuses: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def issue(self, samples: Sequence[Any]) -> None:
        """Take samples of a query; LoadGen wants the call to return at once."""
        for sample in samples:
            self._waiting.put(sample)

    def flush(self) -> None:
        """Nothing is held back."""

    def ignore(self, _indices: Sequence[int]) -> None:
        """The pictures are in memory already."""

    def stop(self) -> None:
        """End the threads."""
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        target = self._target
        connection = http.client.HTTPConnection(target.host, target.port, timeout=_TIMEOUT_S)
        while (sample := self._waiting.get()) is not None:
            try:
                connection.request("POST", target.path, self._bodies[sample.index], dict(target.headers))
                answer = connection.getresponse()
                answer.read()
                status = str(answer.status)
            except (OSError, http.client.HTTPException):
                connection.close()
                status = "closed"
            with self._lock:
                self.statuses[status] += 1
            self._loadgen.QuerySamplesComplete([self._loadgen.QuerySampleResponse(sample.id, 0, 0)])
        connection.close()
