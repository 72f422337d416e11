"""The metrics of a run are what Prometheus reads, in a file and on a port."""

import sys
import urllib.error
import urllib.request
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cpuserve.errors import MissingExtra, UsageError
from cpuserve.video.audit import Audit
from cpuserve.video.cascade_choice import DecidedBy
from cpuserve.video.cascade_run import RunCounts
from cpuserve.video.cascade_stage import Thresholds
from cpuserve.video.drift import DriftResponse
from cpuserve.video.frame_labels import LabelledFrame
from cpuserve.video.run_metrics import RUN_METRICS, RunMetrics
from tests.video.made_cascade import PROMISE


def figures(text):
    return {
        (sample.name.removeprefix("cpuserve_video_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def seen():
    """Counts, audit and drift of a few frames."""
    counts, audit = RunCounts(), Audit(PROMISE.fn, PROMISE.fp, PROMISE.confidence, 0.1)
    drift = DriftResponse(audit, Thresholds(), "alarm")
    frames = [
        LabelledFrame(0, DecidedBy.REFERENCE, True, truth=True),
        LabelledFrame(1, DecidedBy.SKIPPED, True),
        LabelledFrame(2, DecidedBy.DIFFERENCE, True, truth=False, audit=0.1),
    ]
    for frame in frames:
        counts.add(frame)
        drift.see(frame)
    return counts, audit, drift


def test_a_file_has_every_metric(tmp_path, seen):
    file = tmp_path / "run.prom"
    RunMetrics(PROMISE, file=file).publish(*seen, dropped=7)
    found = figures(file.read_text())
    assert {name for name, *_ in found} == set(RUN_METRICS)
    assert found["frames_total", "skipped"] == found["frames_total", "reference"] == 1
    assert found["frames_total", "packets"] == 0
    assert found["audited_errors_total", "difference"] == found["audited_frames_total", "difference"] == 1
    assert found["dropped_frames_total",] == 7
    assert found["error_budget", "fp"] == PROMISE.fp
    assert found["promised_window_share", "fn"] == PROMISE.fn_bound
    assert found["error_share", "fp"] == 1
    assert found["error_share_low", "fn"] == 0
    assert found["alarms_total",] == len(seen[2].alarms)
    assert "# TYPE cpuserve_video_frames_total counter" in file.read_text()


def test_a_port_serves_the_latest_figures(seen):
    metrics = RunMetrics(PROMISE, port=0)
    try:
        metrics.publish(*seen)
        seen[0].add(LabelledFrame(3, DecidedBy.SKIPPED, True))
        metrics.update(*seen)  # too early
        assert _served(metrics)["frames_total", "skipped"] == 1
        metrics.publish(*seen)
        assert _served(metrics)["frames_total", "skipped"] == 2
        with pytest.raises(
            UsageError, match=f"--metrics-port {metrics.port} of 127.0.0.1: Address already in use"
        ):
            RunMetrics(PROMISE, port=metrics.port)
    finally:
        metrics.close()


def _served(metrics):
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics.port}/metrics", timeout=30) as answer:
        return figures(answer.read().decode())


def test_a_file_that_cannot_be_written_is_named(tmp_path, seen):
    with pytest.raises(UsageError, match=r"--metrics-file .*run.prom: No such file or directory"):
        RunMetrics(PROMISE, file=tmp_path / "none" / "run.prom").publish(*seen)


def test_the_page_at_the_port_shows_what_was_promised_and_is_observed(seen):
    metrics = RunMetrics(PROMISE, port=0, host="127.0.0.1", query="<car>", videos=["day <2>.mp4"])
    try:
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(f"http://127.0.0.1:{metrics.port}/", timeout=30)
        metrics.publish(*seen)
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics.port}/", timeout=30) as answer:
            page = answer.read().decode()
        assert answer.headers["Refresh"] == "5"
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    finally:
        metrics.close()
    assert "Run of the cascade for &lt;car&gt;" in page
    assert "day &lt;2&gt;.mp4" in page
    assert "at most 0.93% of windows missed, 1.82% falsely reported" in page
    assert "Falsely reported (FP): 100.00% of frames" in page
    assert "1 wrong of 1 checked" in page


def test_without_a_promise_there_is_no_promised_share(tmp_path, seen):
    file = tmp_path / "run.prom"
    RunMetrics(replace(PROMISE, promised=False), file=file).publish(*seen)
    assert not [name for name, *_ in figures(file.read_text()) if name == "promised_window_share"]


def test_a_port_of_ipv6(seen):
    metrics = RunMetrics(PROMISE, port=0, host="::1")
    try:
        metrics.publish(*seen)
        with urllib.request.urlopen(f"http://[::1]:{metrics.port}/metrics", timeout=30) as answer:
            assert b"cpuserve_video_frames_total" in answer.read()
    finally:
        metrics.close()


def test_a_library_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingExtra, match=r"metrics need prometheus-client: .*'cpuserve\[video\]'"):
        RunMetrics(PROMISE, port=0)
