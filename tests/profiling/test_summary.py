"""The sums over a made recording are those it was made with."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cpuserve.profiling.recording import BatchSpan, ThreadTrack
from cpuserve.profiling.stacks import hottest
from cpuserve.profiling.summary import summarise
from cpuserve.profiling.thread_times import ThreadTimes, TimeSpan, main_cpu, slices
from tests.profiling.made import MS, QUIET, made, stacks


def test_stages_sum_to_the_latency():
    latency = summarise(made(stages={**QUIET, "queue": 3.0})).latency
    assert {stage.name: stage.mean_ms for stage in latency.stages} == pytest.approx({**QUIET, "queue": 3.0})
    assert latency.accounted_share == latency.server_share == pytest.approx(1.0)
    assert latency.mean_ms == pytest.approx(10.8)
    assert latency.missing == ""


def test_what_no_stage_has_is_said_with_where_it_is():
    whole = made()
    holes = [
        replace(request, stages=[span for span in request.stages if span[0] != "infer"])
        for request in whole.requests
    ]
    latency = summarise(replace(whole, requests=holes)).latency
    assert latency.accounted_share == pytest.approx(1.8 / 7.8)
    assert latency.missing == (
        "6.00 ms of 7.80 ms (77%) are in no stage: 6.00 ms between two stages, inside the server"
    )


def test_the_clients_clock_counts_where_there_is_one():
    latency = summarise(made(load={"mean_ms": 10.0})).latency
    assert latency.accounted_share == pytest.approx(0.78)
    assert latency.server_share == pytest.approx(1.0)
    assert "2.20 ms between the client and the server" in latency.missing
    assert summarise(made(load={"mean_ms": 8.0})).latency.missing == ""


def test_without_requests_nothing_is_accounted_for():
    latency = summarise(made(requests=[], batches=[], load={"mean_ms": 3.0})).latency
    assert latency.accounted_share == 0
    assert "no request was answered" in latency.missing


def test_refused_requests_are_no_latency():
    assert summarise(made(statuses=(503,))).latency.requests == 0


def test_cpu_time_goes_where_the_stages_say():
    cpu = summarise(made(gap=0.0, kernel=0.1)).cpu
    assert cpu.total == pytest.approx(2.0, rel=0.02)
    shares = {kind: cpu.share(kind) for kind in ("decode", "inference", "python", "kernel", "spin", "other")}
    wanted = {"decode": 1.3 / 7.8, "inference": 6 / 7.8, "python": 0.5 / 7.8}
    assert shares == pytest.approx(
        {**{kind: 0.9 * share for kind, share in wanted.items()}, "kernel": 0.1, "spin": 0, "other": 0},
        abs=0.01,
    )


def test_a_thread_that_lost_its_cpu_has_no_more_cpu_time_than_it_got():
    cpu = summarise(made(gap=0.0, wait=1.0)).cpu
    assert cpu.total == pytest.approx(1.0, rel=0.02)
    assert cpu.share("inference") == pytest.approx(6 / 7.8, abs=0.01)


def test_time_of_inference_threads_without_a_batch_is_spinning():
    quiet = summarise(made(workers=1, threads=1, engine_threads=1, spin=1.0, gap=0.0, offloaded=True)).cpu
    assert quiet.inference == pytest.approx(6 / 7.8, abs=0.02)
    assert quiet.spin == pytest.approx(1.8 / 7.8, abs=0.02)
    assert quiet.decode + quiet.python == pytest.approx(1.8 / 7.8, abs=0.02)


def test_the_limit_is_what_is_busy():
    capacity = summarise(made(workers=1, threads=1, gap=0.0)).utilisation
    assert capacity.limit == "serving threads"
    assert capacity.rate == pytest.approx(1000 / 7.8, rel=0.02)
    assert capacity.busy("inference streams") == pytest.approx(6 / 7.8 / 2, abs=0.01)
    assert capacity.in_flight == pytest.approx(1.0, abs=0.02)
    assert capacity.resources[0].ceiling_per_s == pytest.approx(capacity.rate, rel=0.02)
    assert summarise(made(gap=30.0)).utilisation.limit == "load"


def test_spans_that_were_dropped_shorten_the_window():
    whole = made()
    late = [request for request in whole.requests if request.arrived_ns > 600 * MS]
    shortened = summarise(replace(whole, requests=late))
    assert shortened.window.seconds == pytest.approx(0.4, abs=0.02)
    assert shortened.utilisation.rate == pytest.approx(summarise(whole).utilisation.rate, rel=0.05)
    few = TimeSpan.of(replace(whole, requests=whole.requests[:1]))
    assert few == TimeSpan(0, 1000 * MS)


def test_a_thread_is_read_between_its_samples():
    track = ThreadTrack(1, 2, "t", "serve", [(0, 0, 0, 3), (100, 50, 10, 3), (200, 50, 10, 1)], 0, 0, 1)
    assert ThreadTimes.of(track, TimeSpan(50, 150)) == ThreadTimes(track, 25e-9, 5e-9, 100e-9)
    assert slices(track, TimeSpan(0, 200), 2) == [(0.5, 0.1), (0.0, 0.0)]
    assert ThreadTimes.of(replace(track, samples=[(0, 0, 0, 3)]), TimeSpan(0, 200)).cpu_share == 0
    assert main_cpu(track) == (3, 1.0)
    assert main_cpu(replace(track, samples=[])) == (-1, 0.0)


def test_overlapping_batches_count_once_for_a_spinning_thread():
    recording = made(workers=1, threads=1, engine_threads=1, spin=1.0, gap=0.0)
    doubled = [*recording.batches, *(replace(batch, id=-1) for batch in recording.batches)]
    assert summarise(replace(recording, batches=doubled)).cpu.spin == pytest.approx(1.8 / 7.8, abs=0.02)
    assert isinstance(doubled[0], BatchSpan)


def test_functions_are_named_without_their_lines_and_idle_ones_left_out():
    hot = hottest(stacks())
    assert [(one.function, round(one.self_share, 3)) for one in hot] == [
        ("run (cpuserve/serving/batcher.py)", round(60 / 107, 3)),
        ("tail (tails.py)", round(27 / 107, 3)),
        ("into (cpuserve/serving/picture_input.py)", round(20 / 107, 3)),
    ]
    assert hottest(None) == []


def test_an_account_is_fit_for_json():
    content = json.loads(json.dumps(summarise(made(workers=1)).to_json()))
    assert content["accounted_share"] == 1.0
    assert content["capacity"]["limit"] == "serving threads"
