"""The figures of a run: metrics in a file that node_exporter reads, or on a port, with a page at ``/``."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from cpuserve.errors import MissingExtra, UsageError
from cpuserve.video.audit import Audit
from cpuserve.video.cascade_choice import DecidedBy
from cpuserve.video.drift import DriftResponse
from cpuserve.video.observed_run import ObservedRun, observed_run
from cpuserve.video.run_page import run_page

if TYPE_CHECKING:
    from prometheus_client import Metric

    from cpuserve.video.cascade_file import CascadePromise
    from cpuserve.video.cascade_run import RunCounts

__all__ = ["RUN_METRICS", "RunMetrics"]

_EVERY_S = 5.0

RUN_METRICS = {
    "frames_total": ("stage", "Frames labelled so far, by the stage that decided."),
    "positive_frames_total": ("", "Frames labelled yes so far."),
    "dropped_frames_total": ("", "Frames of live sources that were left out because the run was too slow."),
    "audited_frames_total": ("stage", "Decided frames that the reference answered too, by stage."),
    "audited_errors_total": ("stage", "Those among them that the reference does not agree with, by stage."),
    "alarms_total": ("", "Times that a budget was found in danger or broken."),
    "frames_per_second": ("", "Frames labelled in a second since the run began."),
    "error_share": ("kind", "Estimated share of frames missed (fn) or falsely reported (fp)."),
    "error_share_low": ("kind", "Lower bound of that share at the confidence of the promise."),
    "error_share_high": ("kind", "Upper bound of that share at the confidence of the promise."),
    "error_budget": ("kind", "The share that is allowed."),
    "promised_window_share": (
        "kind",
        "Promised bound of the share of windows of 30 frames; absent without a promise.",
    ),
    "reference_only": ("", "1 when all frames go to the reference since an alarm, else 0."),
    "updated_seconds": ("", "When these figures were made, in seconds since 1970."),
}
"""Every metric behind ``cpuserve_video_``: its label, or none, and what it says."""


class RunMetrics:
    """Publishes the figures of a run.

    Args:
        promise: of the cascade.
        file: written every few seconds, whole or not at all; None for none.
        port: where ``/metrics`` is served; None for none.
        host: address of the port.
        query: what the cascade answers, for the page.
        videos: names of the videos, for the page.

    Raises:
        MissingExtra: prometheus-client is not installed.
        UsageError: the port is in use.
    """

    def __init__(
        self,
        promise: CascadePromise,
        *,
        file: Path | None = None,
        port: int | None = None,
        host: str = "127.0.0.1",
        query: str = "",
        videos: Sequence[str] = (),
    ) -> None:
        try:
            import prometheus_client as prometheus  # noqa: PLC0415  # an extra
        except ImportError as error:
            raise MissingExtra("metrics need prometheus-client", "video") from error
        self._prometheus, self._promise = prometheus, promise
        self._file, self._written = file, -_EVERY_S
        self._registry = prometheus.CollectorRegistry()
        self._figures: Mapping[str, Mapping[str, float]] = {}
        self._query, self._videos = query, videos
        self._observed: ObservedRun | None = None
        self._registry.register(self)
        self._metrics = prometheus.make_wsgi_app(self._registry)
        self._server: WSGIServer | None = None
        if port is not None:
            kind = _RunServer6 if ":" in host else _RunServer
            try:
                self._server = make_server(host, port, self._answer, kind, _SilentHandler)
            except OSError as error:
                raise UsageError(f"--metrics-port {port} of {host}: {error.strerror}") from error
            threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    @property
    def port(self) -> int | None:
        """Where the metrics are served."""
        return self._server.server_port if self._server else None

    def update(self, counts: RunCounts, audit: Audit | None, drift: DriftResponse, dropped: int = 0) -> None:
        """Publish the figures, unless they were published a moment ago."""
        if time.monotonic() - self._written >= _EVERY_S:
            self.publish(counts, audit, drift, dropped)

    def publish(self, counts: RunCounts, audit: Audit | None, drift: DriftResponse, dropped: int = 0) -> None:
        """Publish the figures now."""
        self._written = time.monotonic()
        by_stage = {stage.name.lower(): stage for stage in DecidedBy}
        audited = {
            name: audit.by_stage[at] for name, at in by_stage.items() if audit and at in audit.by_stage
        }
        figures: dict[str, Mapping[str, float]] = {
            "frames_total": {name: counts.by_stage[stage] for name, stage in by_stage.items()},
            "positive_frames_total": {"": counts.positive},
            "dropped_frames_total": {"": dropped},
            "audited_frames_total": {name: seen.audited for name, seen in audited.items()},
            "audited_errors_total": {name: seen.wrong for name, seen in audited.items()},
            "alarms_total": {"": len(drift.alarms)},
            "frames_per_second": {"": counts.frames_per_s},
            "error_budget": {"fn": self._promise.fn, "fp": self._promise.fp},
            "reference_only": {"": float(drift.thresholds.reference_only)},
            "updated_seconds": {"": time.time()},
        }
        if self._promise.promised:
            figures["promised_window_share"] = {"fn": self._promise.fn_bound, "fp": self._promise.fp_bound}
        run = observed_run(counts, audit, drift, videos=self._videos, dropped=dropped)
        rates = {kind: rate for kind, rate in (("fn", run.fn), ("fp", run.fp)) if rate is not None}
        if rates:
            figures["error_share"] = {
                kind: rate.value for kind, rate in rates.items() if rate.value is not None
            }
            figures["error_share_low"] = {kind: rate.low for kind, rate in rates.items()}
            figures["error_share_high"] = {kind: rate.high for kind, rate in rates.items()}
        self._figures, self._observed = figures, run
        if self._file is not None:
            try:
                self._prometheus.write_to_textfile(str(self._file), self._registry)
            except OSError as error:
                raise UsageError(f"--metrics-file {self._file}: {error.strerror}") from error

    def close(self) -> None:
        """Close the port. The file stays, with the figures of the end."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _answer(self, request: dict[str, Any], begin: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request: the page at ``/``, else the metrics."""
        if request["PATH_INFO"] != "/":
            answer: Iterable[bytes] = self._metrics(request, begin)
            return answer
        run = self._observed
        if run is None:
            status, page = "503 Service Unavailable", "the run has not labelled a frame yet\n"
        else:
            status, page = "200 OK", run_page(self._query, self._promise, run)
        kind = "text/html" if run else "text/plain"
        headers = [("Content-Type", f"{kind}; charset=utf-8"), ("Refresh", f"{_EVERY_S:.0f}")]
        begin(status, [*headers, ("Cache-Control", "no-store")])
        return [page.encode()]

    def collect(self) -> Iterator[Metric]:
        """The metrics, as the library asks for them."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415

        figures = self._figures
        for name, (label, words) in RUN_METRICS.items():
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            family = kind(f"cpuserve_video_{name}", words, labels=[label] if label else [])
            for value_of, value in figures.get(name, {}).items():
                family.add_metric([value_of] if label else [], value)
            yield family


class _RunServer(ThreadingMixIn, WSGIServer):
    """Answers each request in a thread of its own, that does not keep the process."""

    daemon_threads = True


class _RunServer6(_RunServer):
    address_family = socket.AF_INET6


class _SilentHandler(WSGIRequestHandler):
    """Writes no line for each request."""

    def log_message(self, format: str, *args: Any) -> None:  # the library's name
        """Write nothing."""
