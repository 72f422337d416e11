"""Metrics of all workers, whichever of them answers."""

from __future__ import annotations

import mmap
import os
import select
import signal
import time
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cpuserve.errors import UnknownModel
from cpuserve.protocols.statistics import StatisticsRoutes
from cpuserve.serving.model_table import ModelReport
from cpuserve.serving.request import Request
from cpuserve.serving.statistics import SERVER, Statistics
from tests.protocols.fakes import ask

LARGE = 64 << 20


def rollouts(**choices):
    return SimpleNamespace(choices=choices)


@pytest.fixture
def block():
    return Statistics(rows=3)


def value(block, metric, **labels):
    """A sample of the metrics, or None where it is not there."""
    control = SimpleNamespace(table=SimpleNamespace(read=list))
    pool = SimpleNamespace(statistics=block, control=control, rollouts=rollouts())
    text = StatisticsRoutes(pool).metrics(None).body.decode()
    found = {
        tuple(sample.labels.items()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.removesuffix("_total") == metric.removesuffix("_total")
    }
    return found.get(tuple(labels.items()))


def test_resident_memory_is_every_workers_own_and_rises_and_falls(block):
    block.claim(0)
    steps = [os.pipe() for _ in range(6)]

    def said(step):
        assert select.select([steps[step][0]], [], [], 60)[0], "the other process has said nothing"
        os.read(steps[step][0], 1)

    def say(step):
        os.write(steps[step][1], b"x")

    child = os.fork()
    if child == 0:
        try:
            block.claim(1)
            say(0), said(1)
            with mmap.mmap(-1, LARGE) as memory:
                for page in range(0, LARGE, 4096):
                    memory[page] = 1
                say(2), said(3)
            say(4), said(5)
        finally:
            os._exit(0)
    metric = "process_resident_memory_bytes"
    try:
        said(0)
        small = value(block, metric, pid=str(child))
        assert value(block, metric, pid=str(os.getpid())) > 0
        say(1), said(2)
        large = value(block, metric, pid=str(child))
        say(3), said(4)
        after = value(block, metric, pid=str(child))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for ends in steps:
            os.close(ends[0]), os.close(ends[1])
    assert large > small + LARGE * 0.9
    assert after < large - LARGE * 0.9
    assert value(block, metric, pid=str(child)) is None


def test_requests_inside_are_those_of_all_workers(block):
    one, other = (block.recorder(block.claim(row), "m", 1) for row in (0, 1))
    labels = {"name": "m", "version": "1"}
    one.add("in_flight"), other.add("in_flight")
    assert value(block, "ovms_current_requests", **labels) == 2
    one.failed(Request())
    assert value(block, "ovms_current_requests", **labels) == 1
    other.succeeded(Request(), 1)
    assert value(block, "ovms_current_requests", **labels) == 0


def test_streams_leave_with_the_version(block):
    row = block.claim(0)
    recorder = block.recorder(row, "m", 1)
    recorder.put("streams", 4)
    block.settle(row)
    labels = {"name": "m", "version": "1"}
    assert value(block, "ovms_streams", **labels) == 4
    assert value(block, "cpuserve_images_total", **labels) == 0
    recorder.put("streams", 2)
    assert value(block, "ovms_streams", **labels) == 2
    del recorder
    assert value(block, "ovms_streams", **labels) is None
    assert value(block, "cpuserve_images_total", **labels) is None


def test_waiting_requests_are_those_of_all_workers(block):
    queues = [SimpleNamespace(count=2), SimpleNamespace(count=1)]
    recorders = [block.recorder(block.claim(row), SERVER, 0) for row in (0, 1)]
    for recorder, queue in zip(recorders, queues, strict=True):
        recorder.put_count("queue_depth", queue)
    assert value(block, "cpuserve_queue_depth", all="workers") == 3
    queues[0].count = 0
    recorders[0].put_count("queue_depth", queues[0])
    assert value(block, "cpuserve_queue_depth", all="workers") == 1


def test_statistics_of_one_version_and_of_all(block):
    recorder = block.recorder(block.claim(0), "m", 1)
    request = Request()
    recorder.add("in_flight")
    request.done("decode")
    recorder.succeeded(request, 3)
    file = SimpleNamespace(name="m", version=1)

    def known(name, version):
        if (name, version) != ("m", "1"):
            raise UnknownModel(f"no {name}")
        return SimpleNamespace(file=file)

    routes = StatisticsRoutes(SimpleNamespace(statistics=block, known=known))
    (found,) = ask(routes.stats, "m", "1", method="GET")[2]["model_stats"]
    assert (found["name"], found["version"], found["inference_count"]) == ("m", "1", 3)
    assert found["inference_stats"]["success"]["count"] == 1
    assert found["inference_stats"]["compute_input"]["ns"] == request.stages_ns["decode"]
    assert found["inference_stats"]["fail"]["count"] == 0
    assert ask(routes.stats, "n", "1", method="GET")[0] == 404
    assert ask(routes.stats, method="GET")[2] == {"model_stats": [found]}


def test_every_metric_has_a_help_text_and_models_their_state(block):
    block.claim(0)
    states = [ModelReport("m", 1, "UNAVAILABLE", 'a "quoted"\nreason')] * 2
    control = SimpleNamespace(table=SimpleNamespace(read=lambda: states))
    routes = StatisticsRoutes(SimpleNamespace(statistics=block, control=control, rollouts=rollouts()))
    families = list(text_string_to_metric_families(routes.metrics(None).body.decode()))
    assert all(family.documentation for family in families)
    assert {family.name for family in families} >= {"cpuserve_refused", "ovms_streams", "cpuserve_batches"}
    (state,) = [family for family in families if family.name == "cpuserve_model_state"]
    (sample,) = state.samples
    assert (sample.value, sample.labels["reason"]) == (2, 'a "quoted"\nreason')


def test_the_cpu_time_of_each_worker_is_what_the_kernel_says(block):
    block.claim(0)
    before = value(block, "process_cpu_seconds_total", pid=str(os.getpid()))
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    after = value(block, "process_cpu_seconds_total", pid=str(os.getpid()))
    assert 0.1 <= after - before <= time.process_time()


def test_a_canary_has_its_share_while_it_is_ready():
    def choice(share):
        rollout = SimpleNamespace(canary=None, number=lambda _candidate: 2)
        return SimpleNamespace(rollout=rollout, canary_share=share, shadow=None)

    control = SimpleNamespace(table=SimpleNamespace(read=list))
    pool = SimpleNamespace(
        statistics=Statistics(rows=1), control=control, rollouts=rollouts(m=choice(0.25), n=choice(0))
    )
    text = StatisticsRoutes(pool).metrics(None).body.decode()
    assert 'cpuserve_canary_share{name="m",version="2"} 0.25' in text
    assert 'cpuserve_canary_share{name="n",version="2"} 0' in text
